"""Tabulates the detector's report: flagged pictures among clean, changed, foreign and attacked ones.

Reads   reports/detector.json, or another report by ``--report``
Writes  docs/results/detector.json, or another document by ``--name``
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks import results
from benchmarks.results import CellValue, Column, Table, rate
from benchmarks.tables import markdown
from buckler.evaluation import reports
from buckler.evaluation.reports import DetectorReport
from buckler.measurements.detection import DetectedAttack
from buckler.state import documents
from pipelines.stage import stage

REPORT = Path("reports/detector.json")
COMMAND = "python -m benchmarks.detector"
NAME = "detector"


def run(report: Path, name: str, out: Path) -> None:
    """Write and print the tables; the one of adaptive attacks only if the report has any."""
    found = reports.parse(DetectorReport, documents.read_json(report), report)
    tables = {"clean": clean(found), "attacks": attacks(found)}
    if any(row.adaptive for row in found.attacks):
        tables["adaptive"] = adaptive(found)
    command = COMMAND + f" --report {report}" * (report != REPORT) + f" --name {name}" * (name != NAME)
    settings = {"scored_in": found.scored_in}
    results.new(name, command, tables, settings=settings, remark=remark(found)).write(out)
    print("\n\n".join(markdown(table) for table in tables.values()))


def clean(report: DetectorReport) -> Table:
    """Return the rates at which pictures without attack are flagged."""
    columns = (
        Column("pictures", "pictures"),
        Column("adversarial", "flagged as attacked", ".1%", "95 % interval"),
        Column("any", "answered `review` for any reason", ".1%", "95 % interval"),
    )
    return Table(columns, tuple(_unattacked(report)))


def _unattacked(report: DetectorReport) -> Iterator[dict[str, CellValue]]:
    flagged = report.clean_flagged
    yield {"pictures": "clean", "adversarial": rate(flagged["adversarial"]), "any": rate(flagged["any"])}
    for group in report.subgroups:
        yield {"pictures": f"clean, {group.column} {group.group}", "adversarial": rate(group.clean_fpr)}
    for row in report.harmless:
        yield {"pictures": row.change.replace("_", " "), "adversarial": rate(row.flagged)}
    for kind in report.foreign:
        yield {
            "pictures": f"no dermoscopy: {kind.kind}",
            "adversarial": rate(kind.reasons["adversarial"]),
            "any": rate(kind.flagged),
        }


def attacks(report: DetectorReport) -> Table:
    """Return the detector's figures for each attack."""
    columns = (
        Column("attack", "attack"),
        Column("auc", "AUC", ".3f"),
        Column("tpr", "detected at a 5 % false-positive rate", ".0%"),
        Column("wrong", "wrong answers", ".1%"),
        Column("wrong_and_unflagged", "wrong and unflagged", ".1%", "95 % interval"),
    )
    return Table(columns, tuple(_attack(row) for row in report.attacks))


def adaptive(report: DetectorReport) -> Table:
    """Return the success of the attacker who knows the detector and tries every objective, at each radius."""
    objectives = len({row.attack for row in report.attacks if row.adaptive})
    columns = (
        Column("attack", f"PGD that knows the detector, best of {objectives} objectives"),
        Column("wrong_and_unflagged", "wrong and unflagged", ".1%", "95 % interval"),
    )
    evaded = {row.radius: row.adaptive_wrong_and_unflagged for row in report.worst}
    rows: list[dict[str, CellValue]] = [
        {"attack": f"{radius}", "wrong_and_unflagged": rate(each)} for radius, each in evaded.items() if each
    ]
    return Table(columns, tuple(rows))


def remark(report: DetectorReport) -> str:
    """Return the numbers of pictures and the steps of the adaptive attack."""
    attacked = max((row.wrong.pictures for row in report.attacks if not row.adaptive), default=0)
    parts = [f"{report.clean_flagged['any'].pictures} clean and {attacked} attacked test pictures"]
    known = [row for row in report.attacks if row.adaptive]
    if known:
        steps = max((row.steps or 1) for row in known)
        parts.append(f"{known[0].wrong.pictures} for the attacker who knows the detector, {steps} steps each")
    return f"{'; '.join(parts)}; scored in {report.scored_in}."


def _attack(row: DetectedAttack) -> dict[str, CellValue]:
    kind = ", knows the detector" if row.adaptive else ", stops at the boundary" * row.stops_at_boundary
    norm = "" if row.norm == "linf" else f" ({row.norm})"
    return {
        "attack": f"{row.attack} {row.radius}{norm}{kind}",
        "auc": row.auc,
        "tpr": None if row.adaptive or row.stops_at_boundary else row.tpr_at_fpr["0.05"],
        "wrong": row.wrong.value,
        "wrong_and_unflagged": rate(row.wrong_and_unflagged),
    }


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, default=REPORT)
    results.add_options(parser, NAME)
    given = parser.parse_args()
    run(given.report, given.name, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
