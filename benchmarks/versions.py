"""Compares latency and throughput of the service in this checkout and in another one.

Reads   another checkout of the project with its own ``.venv`` (``make setup``)
Writes  docs/results/versions.json

Each checkout prepares its own release of the same network, on the same generated pictures. The two services run one
after the other in several rounds, so that a slow phase of the machine affects both. The table shows medians.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import results as documents
from benchmarks import serving
from benchmarks.tables import markdown
from buckler.errors import BucklerError
from buckler.release import bundle
from pipelines.stage import stage

COMMAND = "python -m benchmarks.versions CHECKOUT"
MODULE = "benchmarks.serving"
PREPARE = (
    "import sys; from pathlib import Path; from {module} import Plan, prepare; prepare(Plan({size}), Path(sys.argv[1]))"
)
MEASURED = ("requests_per_second", "p50_ms", "p99_ms", "cpu_ms", "worker_memory_mib", "ready_seconds")


def run(before: Path, module: str, plan: serving.Plan, rounds: int, out: Path) -> None:
    """Measure, write the results and print the table.

    Args:
        before: The other checkout.
        module: The other checkout's module with ``Plan`` and ``prepare``.
        plan: Image size, numbers of clients and seconds.
        rounds: Starts and measurements of each service.
        out: Folder of the document.
    """
    after = Path.cwd()
    commits = {checkout: _commit(checkout) for checkout in (before, after)}
    found: list[serving.ServerResult] = []
    with tempfile.TemporaryDirectory(prefix="buckler-bench-") as scratch:
        folders = {before: Path(scratch) / "before", after: Path(scratch) / "after"}
        folders[before].mkdir()
        folders[after].mkdir()
        pictures = serving.prepare(plan, folders[after])
        prepare(before, module, plan, folders[before])
        for _ in range(rounds):
            for checkout, folder in folders.items():
                measured = serving.measure(serving.OURS, plan, folder, pictures, checkout=checkout)
                found += [replace(result, server=commits[checkout]) for result in measured]
    load = table(found, tuple(commits.values()))
    settings = {"rounds": rounds, "seconds": plan.seconds, "image_size": plan.image_size}
    document = documents.new("versions", COMMAND, {"load": load}, seeds=[plan.seed], settings=settings)
    written = document.write(out)
    print(markdown(load))
    print(f"wrote {written}")


def _commit(checkout: Path) -> str:
    commit = bundle.source_of(checkout).commit
    if not commit:
        raise BucklerError(f"expected a git checkout of the project, got {checkout}")
    return commit[:7]


def prepare(checkout: Path, module: str, plan: serving.Plan, folder: Path) -> None:
    """Let another checkout write its release into ``folder``.

    Raises:
        BucklerError: It has no environment, or its ``module`` failed.
    """
    python = checkout / ".venv/bin/python"
    if not python.exists():
        raise BucklerError(f"expected {python}; run make setup in {checkout}")
    code = PREPARE.format(module=module, size=plan.image_size)
    done = subprocess.run(  # noqa: S603 - the user's own checkout
        [python, "-c", code, folder], cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise BucklerError(f"{checkout} cannot prepare a release with {module}:\n{done.stderr[-2000:]}")


def table(found: Sequence[serving.ServerResult], commits: Sequence[str]) -> documents.Table:
    """Return the medians over the rounds, a row for each commit and number of clients; errors are summed."""
    rows = []
    for clients in sorted({result.clients for result in found}):
        for commit in commits:
            mine = [result for result in found if (result.server, result.clients) == (commit, clients)]
            row: dict[str, documents.CellValue] = {
                "server": commit,
                "clients": clients,
                "errors": sum(r.errors for r in mine),
            }
            for name in MEASURED:
                values = [value for result in mine if (value := getattr(result, name)) is not None]
                row[name] = round(median(values), 2) if values else None
            rows.append(row)
    columns = (
        documents.Column("server", "commit"),
        documents.Column("clients", "clients"),
        documents.Column("requests_per_second", "requests/s", ".1f"),
        documents.Column("p50_ms", "p50 ms", ".1f"),
        documents.Column("p99_ms", "p99 ms", ".1f"),
        documents.Column("errors", "errors"),
        documents.Column("cpu_ms", "processor ms a request", ".1f"),
        documents.Column("worker_memory_mib", "worker's memory, MiB", ",.0f"),
        documents.Column("ready_seconds", "ready after, s", ".1f"),
    )
    return documents.Table(columns, tuple(rows))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="the other checkout, with its own .venv")
    parser.add_argument("--module", default=MODULE, help=f"its module with Plan and prepare (default: {MODULE})")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each service")
    documents.add_options(parser)
    given = parser.parse_args()
    plan = serving.Plan(given.size, seconds=given.seconds)
    run(given.checkout.resolve(), given.module, plan, given.rounds, given.out or documents.DIRECTORY)


if __name__ == "__main__":
    stage(main)
