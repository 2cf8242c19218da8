"""Compares latency, throughput and cost of the service in this checkout and in another one.

Reads   another checkout of the project with its own ``.venv`` (``make setup``)
Writes  docs/results/versions.json

Each checkout prepares its own release of each network, on the same generated pictures. The services run one after the
other in several rounds, so that a slow phase of the machine affects both. The table shows medians. The small network
shows the cost of the service itself, which a large one hides.
"""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import results as documents
from benchmarks import servers, serving
from benchmarks.tables import markdown
from buckler.errors import BucklerError
from buckler.release import bundle
from pipelines.stage import stage

COMMAND = "python -m benchmarks.versions CHECKOUT"
MODULE = "benchmarks.serving"
NETWORKS = ("vgg19", "tiny")
CLIENTS = (1, 16, 64)
BEFORE, AFTER = "before", "after"
PREPARE = (
    "import sys; from pathlib import Path; from {module} import Plan, prepare; "
    "prepare(Plan({size}, network={network!r}), Path(sys.argv[1]))"
)
MEASURED = ("requests_per_second", "p50_ms", "p99_ms", "cpu_ms", "worker_memory_mib", "ready_seconds")


@dataclass(frozen=True, slots=True)
class Release:
    """A release of one network that a checkout prepared: ``version`` is ``BEFORE`` or ``AFTER``."""

    version: str
    checkout: Path
    network: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Measurement:
    """One result of a version's service with one network."""

    version: str
    network: str
    result: serving.ServerResult


def run(before: Path, module: str, plans: Sequence[serving.Plan], rounds: int, out: Path) -> None:
    """Measure, write the results and print the table.

    Args:
        before: The other checkout.
        module: The other checkout's module with ``Plan`` and ``prepare``.
        plans: A plan for each network; they differ in nothing else.
        rounds: Starts and measurements of each service with each network.
        out: Folder of the document.
    """
    checkouts = {BEFORE: before, AFTER: Path.cwd()}
    commits = {version: commit_of(checkout) for version, checkout in checkouts.items()}
    found: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="buckler-bench-") as scratch:
        prepared = [(plan, *_prepare_both(plan, checkouts, module, Path(scratch))) for plan in plans]
        for _ in range(rounds):
            for plan, pictures, releases in prepared:
                for release in releases:
                    found += _measure(plan, pictures, release)
    load = table(found, commits)
    settings = {
        "rounds": rounds,
        "seconds": plans[0].seconds,
        "image_size": plans[0].image_size,
        "limits": serving.LIMITS,
    }
    document = documents.new("versions", COMMAND, {"load": load}, seeds=[plans[0].seed], settings=settings)
    written = document.write(out)
    print(markdown(load))
    print(f"wrote {written}")


def commit_of(checkout: Path) -> str:
    """Return the short commit of a checkout, and whether its files differ from it.

    Raises:
        BucklerError: It is no checkout.
    """
    source = bundle.source_of(checkout)
    if not source.commit:
        raise BucklerError(f"expected a git checkout of the project, got {checkout}")
    return source.commit[:7] + " with changes" * source.dirty


def python_of(checkout: Path) -> Path:
    """Return the interpreter of a checkout's environment.

    Raises:
        BucklerError: It has none.
    """
    python = checkout / ".venv/bin/python"
    if not python.exists():
        raise BucklerError(f"expected {python}; run make setup in {checkout}")
    return python


def _prepare_both(
    plan: serving.Plan, checkouts: Mapping[str, Path], module: str, scratch: Path
) -> tuple[list[bytes], list[Release]]:
    """Return the pictures and both checkouts' releases of the plan's network."""
    releases = [Release(v, c, plan.network, scratch / f"{plan.network}-{v}") for v, c in checkouts.items()]
    for release in releases:
        release.folder.mkdir()
    old, new = releases
    prepare(old.checkout, module, plan, old.folder)
    return serving.prepare(plan, new.folder), releases


def _measure(plan: serving.Plan, pictures: Sequence[bytes], release: Release) -> list[Measurement]:
    measured = serving.measure(serving.OURS, plan, release.folder, pictures, checkout=release.checkout)
    return [Measurement(release.version, release.network, result) for result in measured]


def prepare(checkout: Path, module: str, plan: serving.Plan, folder: Path) -> None:
    """Let another checkout write its release into ``folder``.

    Raises:
        BucklerError: It has no environment, or its ``module`` failed.
    """
    code = PREPARE.format(module=module, size=plan.image_size, network=plan.network)
    done = subprocess.run(  # noqa: S603 - the user's own checkout
        [python_of(checkout), "-c", code, folder],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": servers.import_path(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise BucklerError(f"{checkout} cannot prepare a release with {module}:\n{done.stderr[-2000:]}")


def table(found: Sequence[Measurement], commits: Mapping[str, str]) -> documents.Table:
    """Return the medians over the rounds; errors and refused requests are summed.

    Args:
        found: Results of all rounds.
        commits: Commit of each version, in the order of the rows.
    """
    rows: list[dict[str, documents.CellValue]] = []
    for network in dict.fromkeys(each.network for each in found):
        for clients in sorted({each.result.clients for each in found}):
            for version, commit in commits.items():
                mine = [
                    each.result
                    for each in found
                    if (each.network, each.result.clients, each.version) == (network, clients, version)
                ]
                row: dict[str, documents.CellValue] = {"network": network, "clients": clients}
                rows.append({**row, "version": version, "commit": commit, **_summary(mine)})
    columns = (
        ("network", "network", ""),
        ("clients", "clients", ""),
        ("version", "version", ""),
        ("commit", "commit", ""),
        ("requests_per_second", "requests/s", ".1f"),
        ("p50_ms", "p50 ms", ",.1f"),
        ("p99_ms", "p99 ms", ",.1f"),
        ("errors", "errors", ""),
        ("refused", "refused", ""),
        ("cpu_ms", "processor ms a request", ".1f"),
        ("worker_memory_mib", "worker's memory, MiB", ",.0f"),
        ("ready_seconds", "ready after, s", ".1f"),
    )
    return documents.Table(tuple(documents.Column(*each) for each in columns), tuple(rows))


def _summary(rounds: Sequence[serving.ServerResult]) -> dict[str, documents.CellValue]:
    row: dict[str, documents.CellValue] = {
        "errors": sum(each.errors for each in rounds),
        "refused": sum(each.refused for each in rounds),
    }
    for name in MEASURED:
        values = [value for each in rounds if (value := getattr(each, name)) is not None]
        row[name] = round(median(values), 2) if values else None
    return row


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="the other checkout, with its own .venv")
    parser.add_argument("--module", default=MODULE, help=f"its module with Plan and prepare (default: {MODULE})")
    parser.add_argument("--network", nargs="+", default=NETWORKS, help=f"networks (default: {' '.join(NETWORKS)})")
    parser.add_argument("--clients", nargs="+", type=int, default=CLIENTS, help="numbers of clients")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each service")
    documents.add_options(parser)
    given = parser.parse_args()
    plan = serving.Plan(given.size, clients=tuple(given.clients), seconds=given.seconds)
    plans = [replace(plan, network=network) for network in given.network]
    run(given.checkout.resolve(), given.module, plans, given.rounds, given.out or documents.DIRECTORY)


if __name__ == "__main__":
    stage(main)
