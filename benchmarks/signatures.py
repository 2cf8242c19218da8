"""Measures how fast signing keys sign: one in a file and one in a PKCS#11 token.

Writes  docs/results/signatures.json

The first signature contains what a process does once: read the file, or log in to the token and find the key.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks import results
from benchmarks.results import CellValue, Column, Table
from benchmarks.tables import markdown
from buckler.trust import hardware, keys
from buckler.trust.hardware.key import TokenKey
from pipelines.stage import stage

COMMAND = "python -m benchmarks.signatures URI"
BYTES = 2000  # of a promotion's statement


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a key signs.

    Attributes:
        per_second: Signatures a second, one after the other, without the first.
        first_ms: Milliseconds for loading the key and the first signature.
    """

    per_second: float
    first_ms: float


def measure(load: Callable[[], Ed25519PrivateKey | TokenKey], count: int) -> Speed:
    """Load a key, sign once, and then ``count`` times."""
    data = bytes(BYTES)
    started = time.perf_counter()
    key = load()
    key.sign(data)
    first = time.perf_counter()
    for _ in range(count):
        key.sign(data)
    return Speed(count / (time.perf_counter() - first), (first - started) * 1000)


def table(speeds: dict[str, Speed]) -> Table:
    """Return one row for each key."""
    columns = (
        Column("key", "the key is in"),
        Column("per_second", "signatures a second", ",.0f"),
        Column("first_ms", "first signature, ms", ".1f"),
    )
    rows: tuple[dict[str, CellValue], ...] = tuple(
        {"key": name, "per_second": each.per_second, "first_ms": each.first_ms} for name, each in speeds.items()
    )
    return Table(columns, rows)


def run(uri: str, name: str, count: int, out: Path) -> None:
    """Measure, write the results and print the table.

    Args:
        uri: A key in a token.
        name: What the token is, for the table.
        count: Number of signatures of each key.
        out: Directory of the document.
    """
    with tempfile.TemporaryDirectory() as directory:
        keys.generate_key_pair(Path(directory))
        file = Path(directory) / keys.PRIVATE_KEY_FILE
        speeds = {
            "a file": measure(lambda: keys.load_private_key(file), count),
            name: measure(lambda: hardware.load_key(uri), count),
        }
    results.new("signatures", COMMAND, {"speed": table(speeds)}, settings={"signatures": count}).write(out)
    print(markdown(table(speeds)))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri", metavar="URI", help="pkcs11: URI of a signing key")
    parser.add_argument("--name", default="a token of SoftHSM", help="what the token is (default: %(default)s)")
    parser.add_argument("--count", type=int, default=5000, help="signatures of each key (default: %(default)s)")
    results.add_options(parser)
    given = parser.parse_args()
    run(given.uri, given.name, given.count, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
