"""The robustness report as one page for people: everything inside, nothing fetched, nothing run.

Its numbers are those of ``reports/robustness.json``; it adds words, charts and pictures, no measurement.
"""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import jinja2
import numpy as np
from PIL import Image

from buckler.evaluation.convergence import is_flat, late_gain
from buckler.modality.base import Images
from buckler.reporting import charts, templates
from buckler.reporting.charts import Curve, percent
from buckler.reporting.plots import amplified

Document = Mapping[str, Any]

KNOWLEDGE: Final = {
    "white_box": ("white box", "The attacker has the model and computes its gradients."),
    "score": ("black box, scores", "The attacker sees the probabilities of each answer and nothing of the model."),
    "label": ("black box, labels", "The attacker sees the label of each answer and nothing else."),
    "transfer": ("black box, transfer", "The attacker has another model for the same task and no answers of this one."),
    "none": ("control", "No attacker: random change, which an attack must beat."),
}
ATTACK_WORDS: Final = {
    "fgsm": "Fast gradient sign method: one step of the full radius along the sign of the loss gradient.",
    "fgsm_targeted": "FGSM towards one chosen label instead of away from the true one.",
    "fgsm_least_likely": "FGSM towards the label that the model finds least likely.",
    "r_fgsm": "A small random step, then FGSM with what is left of the radius.",
    "fgv": "Fast gradient value: one step along the gradient itself instead of its sign.",
    "pgd": "Projected gradient descent: many small steps from a random start, brought back into the radius each time.",
    "bim": "Basic iterative method: many small FGSM steps from the picture itself.",
    "bim_targeted": "BIM towards one chosen label.",
    "bim_least_likely": "BIM towards the label that the model finds least likely.",
    "mifgsm": "BIM with momentum: each step follows a running sum of the gradients.",
    "fgm_l2": "One step along the gradient, bounded by the length of the whole change.",
    "pgd_l2": "PGD bounded by the length of the whole change.",
    "deepfool": "DeepFool: walks to the nearest boundary of the model, taken as flat at each step.",
    "lbfgs": "L-BFGS: a second-order search for the smallest change that flips the answer.",
    "carlini_wagner": "Carlini & Wagner: weighs the length of the change against how wrong the answer is.",
    "apgd-ce": "AutoPGD: PGD that sets its own step size, on the cross-entropy.",
    "apgd-margin": "AutoPGD on the difference between the true and the best other logit, blind to saturation.",
    "fab": "Fast adaptive boundary: looks for the smallest change that flips the answer.",
    "square": "Random squares, kept when the scores get worse: needs no gradient.",
    "hop_skip_jump": "HopSkipJump: follows the boundary between two labels, seeing labels alone.",
    "universal": "One and the same perturbation for all pictures, learnt on them.",
    "noise": "Random change of the full radius. Whatever it flips, no attacker was needed for.",
}
# What a check of such a name guards against; the first that fits counts.
DOUBTS: Final = (
    (
        r"logits|deterministic|expectation",
        "The model must answer in logits and repeat itself: rounded-off probabilities or chance in the answer hide its "
        "gradient from an attack.",
    ),
    (
        r"gradients?_",
        "An attack can only be as good as its gradient: where that is zero or leads nowhere, the model is masked and "
        "not robust.",
    ),
    (
        r"_at_least_|noise_not_stronger",
        "More effort must not do worse: an iterative attack behind FGSM, or FGSM behind random change, has not worked.",
    ),
    (
        r"budget|steps|restarts",
        "The attack must be at its end: if more effort flips more, it stopped too early.",
    ),
    (r"chance|huge", "No model withstands an unlimited change: one that seems to is not being attacked at all."),
    (
        r"transfer|white_box|black_box|square",
        "Who knows less must not do better: a black-box attack that wins shows that the gradients mislead the "
        "white-box ones.",
    ),
    (
        r"scorer|runtime|reference|reported|clean",
        "The model that is scored must be the model that serves, and give the answers that the other reports count.",
    ),
    (r"epsilon|file|png|8_bit", "An attack must stay within its radius in a picture that can be sent, after rounding."),
)
CLINICAL: Final = {
    "malignant_to_benign_rate": "malignant called benign",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}


@dataclass(frozen=True, slots=True)
class Example:
    """One attacked picture: the label it has, the answers before and after, and the pixels of both, 0..1."""

    truth: str
    before: str
    after: str
    clean: Images
    adversarial: Images

    @property
    def amplified(self) -> Images:
        """Return the perturbation as the triptychs show it."""
        return amplified(self.clean, self.adversarial)

    @property
    def words(self) -> str:
        """Return what the attack did."""
        if self.before != self.truth:
            return "Wrong without attack already."
        return "Holds." if self.after == self.truth else "Flipped."


@dataclass(frozen=True, slots=True)
class Triptychs:
    """What one attack at one radius makes of a few pictures."""

    attack: str
    norm: str
    epsilon_255: int
    examples: tuple[Example, ...]


def render(document: Document, triptychs: Sequence[Triptychs] = ()) -> str:
    """Return the page as HTML that is also well-formed XML.

    Args:
        document: As ``reports/robustness.json`` holds it. Shown where present: ``knowledge`` of a cell, the clinical
            rates of the worst case, ``convergence`` and ``subgroups``.
        triptychs: Pictures to show, an attack after the other.
    """
    cells = [{"name": cell["attack"], "knowledge": None, "only_survivors": False, **cell} for cell in document["cells"]]
    worst = [{**dict.fromkeys(CLINICAL), **row} for row in document["worst_case"]]
    subgroups, curves = document.get("subgroups") or [], document.get("convergence") or []
    clean, chance = document["clean_accuracy"], _chance(document["clean_confusion"])
    return (
        _environment()
        .get_template("robustness.html")
        .render(
            d=document,
            cells=cells,
            worst=worst,
            clinical={field: title for field, title in CLINICAL.items() if any(row[field] for row in worst)},
            malignant=document.get("malignant") or [],
            knowledge=[words for kind, words in KNOWLEDGE.items() if any(cell["knowledge"] == kind for cell in cells)],
            knowledge_words=KNOWLEDGE,
            survivors=any(cell["only_survivors"] for cell in cells),
            attacks=list(dict.fromkeys(cell["attack"] for cell in cells)),
            chance=chance,
            charts=_charts(cells, worst, clean, chance),
            groups=_by_radius(cells),
            strongest=min(cells, key=_strength),
            convergence=charts.by_step(curves) if curves else None,
            curves=curves,
            verdicts=[_verdict(curve) for curve in curves],
            subgroups=subgroups,
            checks=_by_doubt(document["checks"]),
            triptychs=triptychs,
            size=charts,
        )
    )


def _environment() -> jinja2.Environment:
    environment = templates.environment()
    environment.filters |= {
        "percent": percent,
        "interval": charts.interval,
        "png": _png,
        "attack_words": lambda name: ATTACK_WORDS.get(name, "Not described here; see the code of that name."),
    }
    return environment


def _chance(confusion: Sequence[Sequence[int]]) -> float:
    sizes = [sum(row) for row in confusion]
    return max(sizes) / sum(sizes)


def _strength(cell: Document) -> tuple[float, int]:
    return cell["robust_accuracy"]["value"], cell["epsilon_255"]


def _charts(
    cells: Iterable[Document], worst: Iterable[Document], clean: charts.Rate, chance: float
) -> list[tuple[str, charts.Chart]]:
    """Return a chart for each norm: radii of different norms do not compare."""
    curves: dict[str, dict[str, Curve]] = {}
    for cell in cells:
        style = "control" if cell["knowledge"] == "none" else None
        curve = curves.setdefault(cell["norm"], {}).setdefault(cell["name"], Curve(cell["name"], {}, style))
        curve.rates[cell["epsilon_255"]] = cell["robust_accuracy"]
    # Drawn last, so that nothing hides it.
    worst_rates = {row["epsilon_255"]: row["robust_accuracy"] for row in worst}
    curves.setdefault("linf", {})[""] = Curve("worst case", worst_rates, "worst")
    return [
        (norm, charts.by_radius(list(curves[norm].values()), clean=clean, chance=chance, x_label="epsilon, " + norm))
        for norm in sorted(curves, reverse=True)
    ]


def _by_radius(cells: Iterable[Document]) -> list[tuple[tuple[str, int], list[Document]]]:
    """Return the cells of each norm and radius, L-infinity first, strongest first."""

    def place(cell: Document) -> tuple[str, int]:
        return cell["norm"], cell["epsilon_255"]

    ordered = sorted(cells, key=lambda cell: (cell["norm"] != "linf", *place(cell), cell["robust_accuracy"]["value"]))
    return [(key, list(group)) for key, group in groupby(ordered, place)]


def _by_doubt(checks: Iterable[Document]) -> list[tuple[str, list[Document]]]:
    """Return the checks by what they guard against, in the order of ``DOUBTS``; those of no known kind last."""

    def kind(check: Document) -> int:
        fits = (place for place, (pattern, _) in enumerate(DOUBTS) if re.search(pattern, check["name"]))
        return next(fits, len(DOUBTS))

    words = [why for _, why in DOUBTS] + [""]
    return [(words[place], list(group)) for place, group in groupby(sorted(checks, key=kind), kind)]


def _verdict(curve: Document) -> str:
    rates, steps = curve["success_rate"], curve["steps"]
    gain = percent(late_gain(rates)).removesuffix("%")
    words = "converged" if is_flat(rates) else "still rising, more steps would flip more"
    return (
        f"At {curve['epsilon_255']}/255: {percent(rates[-1])} flipped after {steps[-1]} steps, {gain} points of that "
        f"in the last quarter of the steps: {words}."
    )


def _png(pixels: Images) -> str:
    """Return ``pixels``, ``(height, width, 3)`` in 0..1, as the address of a PNG that is inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
