"""Compares the measured accuracy with the paper's.

Reads   reports/{evaluation,robustness,timings}.json
Writes  docs/results/paper.json, or another document by ``--name``

Source: Selvakkumar, Pal & Jadidi, arXiv 2112.08862: 88 % clean, 11 % under FGSM, radius not stated.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.results import CellValue, Column, Table, rate
from benchmarks.tables import markdown
from buckler.evaluation import reports
from buckler.evaluation.reports import EvaluationReport, RobustnessReport
from buckler.measurements.results import Rate
from buckler.state import timings
from buckler.state.timings import Timings
from pipelines.stage import stage

REPORTS = Path("reports")
PAPER_CLEAN, PAPER_FGSM = "88 %", "11 % (radius not stated)"


def run(name: str, out: Path) -> None:
    """Write and print the tables."""
    evaluation, robustness = reports.read(EvaluationReport, REPORTS), reports.read(RobustnessReport, REPORTS)
    fgsm = next(cell for cell in robustness.cells if cell.attack == "fgsm")
    labels = robustness.labels
    tables = {
        "accuracy": accuracy(evaluation, robustness, timings.read(REPORTS)),
        "classes": classes(evaluation),
        "confusion": confusion("clean", labels, robustness.clean_confusion),
        "confusion_attacked": confusion(f"FGSM {fgsm.radius}", labels, fgsm.confusion),
    }
    seeds = sorted({cell.seed for cell in robustness.cells})
    results.new(name, f"make {name} IMAGES=DIR WEIGHTS=FILE", tables, seeds=seeds).write(out)
    print("\n\n".join(markdown(table) for table in tables.values()))


def accuracy(evaluation: EvaluationReport, robustness: RobustnessReport, times: Timings) -> Table:
    """Return a row for the clean accuracy, for each attack, and for the worst case at each radius."""
    columns = (
        Column("accuracy", f"accuracy on {robustness.data.images} test pictures"),
        Column("measured", "measured", ".1%", "95 % interval"),
        Column("paper", "paper"),
        Column("seconds", "seconds", ".0f"),
    )
    rows = [_row("clean", evaluation.clean_accuracy, PAPER_CLEAN)]
    for cell in robustness.cells:
        name = f"{cell.name} {cell.radius}, crafted in {cell.crafted_in}"
        seconds = times.attacks.get(f"{cell.name}@{cell.radius}")
        rows.append(_row(name, cell.robust_accuracy, PAPER_FGSM * (cell.attack == "fgsm"), seconds))
    for row in robustness.worst_case:
        rows.append(_row(f"worst case up to {row.radius}", row.robust_accuracy))
        if row.sensitivity:
            rows.append(_row(f"malignant sensitivity up to {row.radius}", row.sensitivity))
    return Table(columns, tuple(rows))


def classes(evaluation: EvaluationReport) -> Table:
    """Return precision, recall and F1 of each class on clean pictures."""
    columns = (
        Column("label", "clean, by class"),
        Column("precision", "precision", ".2f"),
        Column("recall", "recall", ".2f"),
        Column("f1", "F1", ".2f"),
        Column("support", "pictures"),
    )
    keys = [column.key for column in columns[1:]]
    rows = evaluation.classes.items()
    return Table(columns, tuple({"label": label, **{key: getattr(row, key) for key in keys}} for label, row in rows))


def confusion(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    """Return a confusion matrix: a row for each true class, a column for each predicted one."""
    columns = (
        Column("true", f"{title}: true \\ predicted"),
        *(Column(f"predicted {label}", label) for label in labels),
    )
    keys = [column.key for column in columns]
    return Table(
        columns, tuple(dict(zip(keys, (label, *row), strict=True)) for label, row in zip(labels, counts, strict=True))
    )


def _row(name: str, measured: Rate, paper: str = "", seconds: float | None = None) -> dict[str, CellValue]:
    return {"accuracy": name, "measured": rate(measured), "paper": paper, "seconds": seconds}


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_options(parser, "paper")
    given = parser.parse_args()
    run(given.name, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
