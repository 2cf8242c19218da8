"""Tabulates what a model's decisions miss and what they cost, with the limit of a harmless answer and without it.

Reads   reports/decisions.json of a finished pipeline, or another report by ``--report``; the document, if it exists
Writes  docs/results/accepted_misses.json: the rows of ``--name`` are replaced, those of other names stay
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.results import CellValue, Column, Estimate, Table, rate
from benchmarks.tables import markdown
from buckler.evaluation import reports
from buckler.evaluation.reports import DecisionsReport
from buckler.measurements.decisions import Decisions
from buckler.measurements.results import Rate
from buckler.state import documents
from pipelines.stage import stage

REPORT = Path("reports/decisions.json")
DOCUMENT = "accepted_misses"
COMMAND = "python -m benchmarks.accepted_misses"
DECISIONS = (
    Column("network", "network"),
    Column("limit", "limit of a harmless answer"),
    Column("accepted_misses", "accepted misses", ".1%", "95 % interval"),
    Column("reviews", "reviews", ".1%", "95 % interval"),
    Column("harmless_reviews", "of harmless pictures", ".1%", "95 % interval"),
    Column("dangerous_reviews", "of dangerous pictures", ".1%", "95 % interval"),
)
CALIBRATION = (
    Column("network", "network"),
    Column("pictures", "dangerous calibration pictures"),
    Column("missed", "of them below the limit"),
    Column("sensitivity_low", "lower bound of the sensitivity", ".1%"),
    Column("temperature", "temperature", ".2f"),
    Column("uncalibrated_error", "calibration error before", ".3f"),
    Column("calibration_error", "after", ".3f"),
)


def run(report: Path, name: str, out: Path) -> None:
    """Write and print both tables with the rows of ``name``, the network that ``report`` is about."""
    found = reports.parse(DecisionsReport, documents.read_json(report), report)
    rows = {"decisions": list(_decisions(found, name)), "calibration": [_calibration(found, name)]}
    path = out / f"{DOCUMENT}.json"
    earlier = results.read(path) if path.exists() else None
    settings: dict[str, Any] = {**(earlier.settings if earlier else {}), name: _origin(found)}
    tables = {}
    for key, columns in (("decisions", DECISIONS), ("calibration", CALIBRATION)):
        others = [row for row in earlier.tables[key].rows if row["network"] != name] if earlier else []
        tables[key] = Table(columns, (*others, *rows[key]))
    command = COMMAND + f" --report {report}" * (report != REPORT) + f" --name {name}"
    results.new(DOCUMENT, command, tables, settings=settings, remark=_remark(settings)).write(out)
    print("\n\n".join(markdown(table) for table in tables.values()))


def _decisions(report: DecisionsReport, name: str) -> Iterator[dict[str, CellValue]]:
    limit = "none set" if report.danger is None or report.danger.limit is None else f"{report.danger.limit:.3f}"
    for shown, found in (("off", report.without_limit), (limit, report.with_limit)):
        yield {"network": name, "limit": shown, **_rates(found)}


def _rates(found: Decisions) -> dict[str, CellValue]:
    rates = {column.key: getattr(found, column.key) for column in DECISIONS if column.interval}
    return {key: _cell(value) for key, value in rates.items()}


def _cell(found: Rate | None) -> Estimate | None:
    return rate(found) if found else None


def _calibration(report: DecisionsReport, name: str) -> dict[str, CellValue]:
    danger = report.danger
    return {
        "network": name,
        "pictures": danger.pictures if danger else None,
        "missed": danger.missed if danger else None,
        "sensitivity_low": danger.sensitivity_low if danger else None,
        "temperature": report.temperature,
        "uncalibrated_error": report.uncalibrated_error,
        "calibration_error": report.calibration_error,
    }


def _origin(report: DecisionsReport) -> dict[str, Any]:
    misses = report.with_limit.accepted_misses
    return {
        "model": report.model.digest,
        "data": report.data.version,
        "scored_in": report.scored_in,
        "pictures": report.data.images,
        "dangerous": misses.pictures if misses else 0,
    }


def _remark(settings: dict[str, Any]) -> str:
    counts = [f"{name}: {one['pictures']}, {one['dangerous']} of them dangerous" for name, one in settings.items()]
    return f"Clean test pictures of {'; '.join(counts)}."


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--name", default="demo", help="name of the network in the tables (default: demo)")
    results.add_options(parser)
    given = parser.parse_args()
    run(given.report, given.name, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
