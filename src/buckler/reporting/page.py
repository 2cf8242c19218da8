"""The robustness report as one self-contained HTML page, without scripts or external files.

All numbers come from the reports on clean pictures, on robustness and on decisions. Descriptions of attacks and checks
come from `ATTACKS` and `CHECKS`.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import jinja2
import numpy as np
from PIL import Image

from buckler.attacks.base import KNOWLEDGE
from buckler.attacks.table import ATTACKS
from buckler.detection.reasons import Reason
from buckler.evaluation.convergence import is_flat, late_gain
from buckler.evaluation.illustrations import Illustrated
from buckler.evaluation.reports import DecisionsReport, EvaluationReport, RobustnessReport
from buckler.evaluation.sanity import CHECKS, Check
from buckler.measurements.results import Cell, CheckResult, Convergence
from buckler.modality.base import Images
from buckler.radius import StatedRadius
from buckler.reporting import charts, templates
from buckler.reporting.charts import Curve, percent
from buckler.reporting.plots import amplified

CLINICAL: Final = {
    "malignant_to_benign_rate": "{dangerous} missed",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}


@dataclass(frozen=True, slots=True)
class Example:
    """One attacked picture: its label, the answers before and after, and the pixels of both, 0..1."""

    truth: str
    before: str
    after: str
    clean: Images
    adversarial: Images

    @property
    def amplified(self) -> Images:
        """Return the perturbation times ten around grey, within 0..1."""
        return amplified(self.clean, self.adversarial)

    @property
    def effect(self) -> str:
        """Return the attack's effect as a sentence."""
        if self.before != self.truth:
            return "Wrong without attack."
        return "Correct under attack." if self.after == self.truth else "Flipped by the attack."


@dataclass(frozen=True, slots=True)
class Triptychs:
    """A few pictures attacked by one attack at one radius."""

    attack: str
    norm: str
    radius: StatedRadius
    examples: tuple[Example, ...]

    @classmethod
    def of(cls, shown: Illustrated) -> "Triptychs":
        """Return the examples of an illustration."""
        about = shown.about
        pixels = zip(about.pictures, shown.clean, shown.attacked, strict=True)
        examples = tuple(Example(each.truth, each.before, each.after, *images) for each, *images in pixels)
        return cls(about.attack, about.norm, about.radius, examples)


def render(
    report: RobustnessReport,
    decisions: DecisionsReport,
    evaluation: EvaluationReport,
    illustrated: Sequence[Illustrated] = (),
) -> str:
    """Return the page as HTML that is also well-formed XML.

    Args:
        report: The robustness report.
        decisions: The report on the decisions of the same model.
        evaluation: The report on its answers to clean pictures.
        illustrated: Its example pictures.
    """
    cells, worst, curves = report.cells, report.worst_case, report.convergence
    dangerous = " or ".join(report.malignant)
    clinical = {
        field: title.format(dangerous=dangerous)
        for field, title in CLINICAL.items()
        if any(getattr(row, field) for row in worst)
    }
    return (
        _environment()
        .get_template("robustness.html")
        .render(
            report=report,
            decisions=decisions,
            evaluation=evaluation,
            reasons={reason.value: reason.meaning for reason in Reason},
            clinical=clinical,
            dangerous=dangerous,
            harmless=" or ".join(label for label in report.labels if label not in report.malignant),
            knowledge=[level for kind, level in KNOWLEDGE.items() if any(cell.knowledge == kind for cell in cells)],
            levels=KNOWLEDGE,
            survivors=any(cell.only_survivors for cell in cells),
            attacks=list(dict.fromkeys(cell.attack for cell in cells)),
            charts=_charts(report),
            groups=_by_radius(cells),
            strongest=min(cells, key=_strength),
            convergence=charts.by_step(curves) if curves else None,
            convergence_notes=[_convergence_note(curve) for curve in curves],
            checks=_by_kind(report.checks),
            triptychs=[Triptychs.of(each) for each in illustrated],
            size=charts,
        )
    )


def _environment() -> jinja2.Environment:
    environment = templates.environment()
    environment.filters |= {
        "percent": percent,
        "interval": charts.interval,
        "png": _png,
        "describe": _describe,
    }
    return environment


def _strength(cell: Cell) -> tuple[float, StatedRadius]:
    return cell.robust_accuracy.value, cell.radius


def _charts(report: RobustnessReport) -> list[tuple[str, charts.LineChart]]:
    """Return a chart for each norm: radii of different norms are not comparable."""
    curves: dict[str, dict[str, Curve]] = {}
    for cell in report.cells:
        style = "control" if cell.knowledge == "none" else None
        curve = curves.setdefault(cell.norm, {}).setdefault(cell.name, Curve(cell.name, {}, style))
        curve.rates[cell.radius] = cell.robust_accuracy
    # Last, so that it is drawn over the other lines.
    worst = {row.radius: row.robust_accuracy for row in report.worst_case}
    curves.setdefault("linf", {})[""] = Curve("worst case", worst, "worst")

    def draw(norm: str) -> charts.LineChart:
        lines, clean = list(curves[norm].values()), report.clean_accuracy
        return charts.by_radius(lines, clean=clean, chance=report.chance, x_label=f"radius in {norm}")

    return [(norm, draw(norm)) for norm in sorted(curves, reverse=True)]


def _by_radius(cells: Iterable[Cell]) -> list[tuple[tuple[str, StatedRadius], list[Cell]]]:
    """Return the cells of each norm and radius: linf first, then by radius, the strongest attack first."""

    def place(cell: Cell) -> tuple[str, StatedRadius]:
        return cell.norm, cell.radius

    ordered = sorted(cells, key=lambda cell: (cell.norm != "linf", *place(cell), cell.robust_accuracy.value))
    return [(key, list(group)) for key, group in groupby(ordered, place)]


def _by_kind(checks: Iterable[CheckResult]) -> list[tuple[Check | None, list[CheckResult]]]:
    """Return the checks grouped by their kind in ``CHECKS``, in its order; unknown kinds last, as None."""
    places = {kind: place for place, kind in enumerate(CHECKS)}
    ordered = sorted(checks, key=lambda check: places.get(check.kind, len(places)))
    return [(CHECKS.get(name), list(group)) for name, group in groupby(ordered, lambda check: check.kind)]


def _describe(attack: str) -> str:
    known = ATTACKS.get(attack)
    return known.description if known else "Unknown to this version of Buckler."


def _convergence_note(curve: Convergence) -> str:
    rates = curve.success_rate
    gain = percent(late_gain(rates)).removesuffix("%")
    result = "converged" if is_flat(rates) else "not converged, more steps would flip more pictures"
    return (
        f"At {curve.radius}: {percent(rates[-1])} flipped after {curve.steps[-1]} steps, {gain} percentage "
        f"points of that in the last quarter of the steps: {result}."
    )


def _png(pixels: Images) -> str:
    """Return ``pixels``, ``(height, width, 3)`` in 0..1, as the data URL of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
