"""Tabulates a finished demo: what its network knows, what it withstands, and where its heat maps point.

Reads   reports/{evaluation,robustness,runtime}.json
Writes  docs/results/heat_map.json, or another document by ``--name``
"""

import argparse
from pathlib import Path

from benchmarks import results
from benchmarks.results import CellValue, Column, Estimate, Table, rate
from benchmarks.tables import markdown
from buckler.errors import DataError
from buckler.evaluation import reports
from buckler.evaluation.reports import EvaluationReport, RobustnessReport, RuntimeReport
from buckler.measurements.results import HeatMapCheck
from pipelines.stage import stage

REPORTS = Path("reports")
COMMAND = "python -m benchmarks.heat_map"
NAME = "heat_map"


def run(directory: Path, name: str, out: Path) -> None:
    """Write and print the tables of the reports in ``directory``.

    Raises:
        DataError: A report is missing or malformed, or the pictures have no masks of their lesions.
    """
    evaluation = reports.read(EvaluationReport, directory)
    robustness, runtime = reports.read(RobustnessReport, directory), reports.read(RuntimeReport, directory)
    if evaluation.heat_map is None:
        raise DataError(f"{directory}: expected a check of heat maps, got none; run the profile demo with `dvc repro`")
    tables = {
        "network": network(evaluation, robustness),
        "pointed": pointed(evaluation.heat_map),
        "precisions": precisions(runtime),
    }
    settings = {"scored_in": evaluation.scored_in, "pictures": evaluation.data.images}
    results.new(name, COMMAND, tables, settings=settings).write(out)
    print("\n\n".join(markdown(table) for table in tables.values()))


def network(evaluation: EvaluationReport, robustness: RobustnessReport) -> Table:
    """Return accuracy on clean pictures and under attack."""
    columns = (Column("measure", "on test pictures"), Column("value", "share", ".1%", "95 % interval"))
    rows: list[dict[str, CellValue]] = [
        {"measure": "clean accuracy", "value": rate(evaluation.clean_accuracy)},
        {"measure": "area under the ROC curve", "value": Estimate(evaluation.roc_auc)},
    ]
    for row in robustness.worst_case:
        worst = f"right under every attack up to {row.radius}"
        rows.append({"measure": worst, "value": rate(row.robust_accuracy)})
    return Table(columns, tuple(rows))


def pointed(check: HeatMapCheck) -> Table:
    """Return how often the hottest spot lies on the lesion."""
    columns = (
        Column("answer", "predicted label"),
        Column("pointed", "hottest spot on the lesion", ".1%", "95 % interval"),
    )
    shares = {"any": check.pointed, **check.by_label}
    return Table(columns, tuple({"answer": label, "pointed": rate(share)} for label, share in shares.items()))


def precisions(report: RuntimeReport) -> Table:
    """Return how far each precision differs from the reference."""
    columns = (
        Column("precision", "precision"),
        Column("labels", "same label", ".1%"),
        Column("probability", "probability gap", ".4f"),
        Column("robust", "robust accuracy gap", ".3f"),
        Column("serves", "serves"),
    )
    rows: list[dict[str, CellValue]] = [
        {
            "precision": name,
            "labels": found.label_agreement,
            "probability": found.probability_gap,
            "robust": found.robust_accuracy_gap,
            "serves": name == report.serves,
        }
        for name, found in report.precisions.items()
    ]
    return Table(columns, tuple(rows))


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=Path, default=REPORTS, help="directory of the demo's reports")
    results.add_options(parser, NAME)
    given = parser.parse_args()
    run(given.reports, given.name, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
