"""Stage ``report``: draws every page and plot from the reports. It measures nothing, so a new colour attacks nothing.

Reads   reports/{validation,evaluation,robustness,detector,decisions}.json, data/validation_pages/,
        reports/illustrations.npz, reports/training/history.csv, reports/curves/{roc,detector_roc}.csv
Writes  reports/robustness.html, reports/data_docs/, reports/plots/robustness.csv,
        reports/plots/{training,confusion,roc,reliability,robustness,confusion_attacked,triptych,detector_roc,
        detector_risk}.png
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from buckler.evaluation import illustrations, reports
from buckler.evaluation.illustrations import Illustrated
from buckler.evaluation.reports import (
    DecisionsReport,
    DetectorReport,
    EvaluationReport,
    RobustnessReport,
    ValidationReport,
)
from buckler.measurements.results import Cell, Rate
from buckler.radius import StatedRadius
from buckler.reporting import data_docs, page, plots
from buckler.state import documents
from pipelines.stage import stage

REPORTS = Path("reports")
VALIDATION_PAGES = Path("data/validation_pages")
PLOTS = REPORTS / "plots"
CURVES = REPORTS / "curves"


def run() -> None:
    """Draw the pages and plots of the reports."""
    PLOTS.mkdir(exist_ok=True)
    data_docs.write(reports.read(ValidationReport, REPORTS), VALIDATION_PAGES, REPORTS / "data_docs")
    history = documents.read_csv(REPORTS / "training/history.csv")
    plots.training_curves([_numbers(row) for row in history], PLOTS / "training.png")
    evaluation, decisions = reports.read(EvaluationReport, REPORTS), reports.read(DecisionsReport, REPORTS)
    draw_evaluation(evaluation)
    draw_reliability(evaluation, decisions)
    draw_detector(reports.read(DetectorReport, REPORTS))
    robustness = reports.read(RobustnessReport, REPORTS)
    shown = illustrations.read(REPORTS, robustness.illustrations)
    draw_robustness(robustness)
    draw_triptych(shown[0])
    (REPORTS / "robustness.html").write_text(page.render(robustness, decisions, evaluation, shown), encoding="utf-8")


def draw_evaluation(report: EvaluationReport) -> None:
    """Draw confusion matrix and ROC curve on clean pictures."""
    title = f"Clean accuracy {report.clean_accuracy.value:.3f}"
    plots.confusion(report.confusion, report.labels, title, PLOTS / "confusion.png")
    points = documents.read_csv(CURVES / "roc.csv")
    found = report.roc_auc_interval
    interval = f" ({found[0]:.3f} to {found[1]:.3f})" if found else ""
    plots.roc({points[0]["label"]: _curve(points)}, f"ROC AUC {report.roc_auc:.3f}{interval}", PLOTS / "roc.png")


def draw_reliability(evaluation: EvaluationReport, decisions: DecisionsReport) -> None:
    """Draw the reliability of the probabilities before and after the temperature."""
    before = [(each.confidence, each.accuracy, each.pictures) for each in evaluation.reliability]
    after = [(each.confidence, each.right / each.pictures, each.pictures) for each in decisions.reliability]
    series = {
        f"network: error {decisions.uncalibrated_error:.3f}": before,
        f"as served: error {decisions.calibration_error:.3f}": after,
    }
    plots.reliability(series, PLOTS / "reliability.png")


def draw_robustness(report: RobustnessReport) -> None:
    """Draw robust accuracy by radius and the confusion matrices under attack; write the table that DVC plots."""
    rows = [
        {
            "attack": cell.name,
            "radius": cell.radius.number,
            "robust_accuracy": cell.robust_accuracy.value,
            "low": cell.robust_accuracy.low,
            "high": cell.robust_accuracy.high,
        }
        for cell in report.cells
    ]
    documents.write_csv(PLOTS / "robustness.csv", rows)
    curves: dict[str, dict[StatedRadius, Rate]] = {}
    for cell in sorted((c for c in report.cells if c.norm == "linf"), key=lambda cell: cell.radius):
        curves.setdefault(cell.name, {})[cell.radius] = cell.robust_accuracy
    worst = {row.radius: row.robust_accuracy for row in report.worst_case}
    plots.robustness(curves, worst, report.clean_accuracy.value, report.chance, PLOTS / "robustness.png")
    after = {f"{cell.name} {cell.radius}": cell.confusion for cell in _strongest(report.cells)}
    plots.confusions({"clean": report.clean_confusion, **after}, report.labels, PLOTS / "confusion_attacked.png")


def draw_triptych(shown: Illustrated) -> None:
    """Draw the example pictures of one attack."""
    about = shown.about
    attack = f"{about.attack} {about.radius}"
    captions = [(f"true {each.truth}, answer {each.before}", f"{attack}: {each.after}") for each in about.pictures]
    plots.triptych(shown.clean, shown.attacked, captions, PLOTS / "triptych.png")


def draw_detector(report: DetectorReport) -> None:
    """Draw the detector's ROC curves at the middle radius, and risk against coverage."""
    points = documents.read_csv(CURVES / "detector_roc.csv")
    radii = sorted({StatedRadius(point["radius"]) for point in points})
    radius = radii[(len(radii) - 1) // 2]
    here = [point for point in points if point["radius"] == str(radius)]
    curves = {
        f"{attack} {radius}": _curve([point for point in here if point["attack"] == attack])
        for attack in dict.fromkeys(point["attack"] for point in here)
    }
    plots.roc(curves, "Detector: attacked against clean test pictures", PLOTS / "detector_roc.png")
    plots.risk_coverage(report.risk_coverage, PLOTS / "detector_risk.png")


def _strongest(cells: Sequence[Cell]) -> list[Cell]:
    names = dict.fromkeys(cell.name for cell in cells)
    return [min((c for c in cells if c.name == n), key=lambda cell: cell.robust_accuracy.value) for n in names]


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items()}


def _curve(points: Sequence[Mapping[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = (np.array([float(point[rate]) for point in points]) for rate in ("fpr", "tpr"))
    return x, y


def main() -> None:
    """Run the stage."""
    run()


if __name__ == "__main__":
    stage(main)
