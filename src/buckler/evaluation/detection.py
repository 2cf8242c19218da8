"""How well a detector does: rows of a report, each about the same test pictures in another state.

No attacked picture decides anything about the detector here; the lines were drawn before (`pipelines/calibrate.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score, roc_curve

from buckler.detection.reasons import Reason
from buckler.detection.screening import Flags, Screening
from buckler.detection.threshold import Scores
from buckler.evaluation.statistics import Rate, wilson
from buckler.modality.base import Images, Labels
from buckler.models.forward import Forward

FPRS = (0.01, 0.05)
Held = npt.NDArray[np.bool_]  # (n,)


@dataclass(frozen=True, slots=True)
class Screened:
    """What a screening says of some pictures and the answers to them: ``scores`` (n,), ``flags`` by reason."""

    forward: Forward
    scores: Scores
    flags: Flags

    @classmethod
    def of(cls, screening: Screening, images: Images, forward: Forward) -> "Screened":
        """Screen ``images`` (n, size, size, 3), of which the network made ``forward``."""
        return cls(forward, *screening.flags(images, forward))

    def subset(self, rows: npt.NDArray[np.intp]) -> "Screened":
        """Return what is said of the pictures at ``rows``."""
        forward = Forward(self.forward.logits[rows], self.forward.features[rows])
        return Screened(forward, self.scores[rows], {reason: held[rows] for reason, held in self.flags.items()})

    def wrong_and_unflagged(self, truth: Labels) -> Held:
        """Return which answers are wrong while nothing speaks against them: what reaches a patient."""
        return np.asarray(self.wrong(truth) & ~self.flagged)

    @property
    def flagged(self) -> Held:
        """Return which pictures a person has to look at because of what they are, whatever the reason.

        An answer that is not sure of itself is no finding about the picture and does not count.
        """
        found = [held for reason, held in self.flags.items() if reason != Reason.LOW_CONFIDENCE]
        return np.asarray(np.any(found, axis=0))

    def wrong(self, truth: Labels) -> Held:
        """Return which answers are not the ``truth`` (n,)."""
        return np.asarray(self.forward.logits.argmax(axis=1) != truth)


def rate(held: Held) -> Rate:
    """Return the share of pictures that something holds for, with its interval."""
    return wilson(int(held.sum()), len(held))


def clean_rows(clean: Screened, groups: Mapping[tuple[str, str], Held]) -> dict[str, Any]:
    """Return how often clean pictures are flagged: by the detector, for each reason, in each group."""
    return {
        "clean_fpr": rate(clean.flags[Reason.ADVERSARIAL]),
        "clean_flagged": {reason: rate(held) for reason, held in clean.flags.items()} | {"any": rate(clean.flagged)},
        "subgroups": [
            {"column": column, "group": group, "clean_fpr": rate(clean.flags[Reason.ADVERSARIAL][members])}
            for (column, group), members in groups.items()
            if members.any()
        ],
    }


def attack_row(
    clean: Screened, attacked: Screened, truth: Labels, *, adaptive: bool = False, **facts: Any
) -> dict[str, Any]:
    """Return the row of one attack at one radius; ``facts`` say which."""
    false_positive, true_positive = curve(clean.scores, attacked.scores)
    tpr = {f"{f:.2f}": float(true_positive[np.searchsorted(false_positive, f, side="right") - 1]) for f in FPRS}
    count = len(truth)
    return {
        **facts,
        "adaptive": adaptive,
        "auc": float(roc_auc_score(_sides(clean.scores, attacked.scores), _joined(clean.scores, attacked.scores))),
        "tpr_at_fpr": tpr,
        "tpr_at_fpr_interval": {fpr: wilson(round(share * count), count).interval for fpr, share in tpr.items()},
        "flagged": rate(attacked.flags[Reason.ADVERSARIAL]),
        "wrong": rate(attacked.wrong(truth)),
        "wrong_and_unflagged": rate(attacked.wrong_and_unflagged(truth)),
    }


def benign_change_row(clean: Screened, changed: Screened, name: str) -> dict[str, Any]:
    """Return the row of a change that is no attack: it should be flagged no more often than clean pictures are."""
    both = _joined(clean.scores, changed.scores)
    return {
        "change": name,
        "auc": float(roc_auc_score(_sides(clean.scores, changed.scores), both)),
        "flagged": rate(changed.flags[Reason.ADVERSARIAL]),
    }


def strangers_row(foreign: Screened, name: str) -> dict[str, Any]:
    """Return how often pictures of another kind are turned away, and for which reason."""
    return {
        "kind": name,
        "flagged": rate(foreign.flagged),
        "reasons": {r: rate(held) for r, held in foreign.flags.items() if r != Reason.LOW_CONFIDENCE},
    }


def risk_coverage(clean: Screened, truth: Labels, points: int = 20) -> list[dict[str, float]]:
    """Return the share of wrong answers among the least suspicious pictures, for growing shares of them."""
    wrong = clean.wrong(truth)[np.argsort(clean.scores, kind="stable")]
    counts = np.unique(np.linspace(len(wrong) / points, len(wrong), points).round().astype(int))
    return [{"coverage": float(n / len(wrong)), "risk": float(wrong[:n].mean())} for n in counts if n]


def worst_by_radius(rows: Sequence[Mapping[str, Any]], evaded: Mapping[int, Held]) -> list[dict[str, Any]]:
    """Return for each radius in the L-infinity norm the attack that is told worst, and how often a system falls.

    Args:
        rows: Of the report's attacks.
        evaded: Radius in 1/255 -> which pictures (n,) an attacker who knows the detector got past it, by whatever
            objective.
    """
    found = []
    for radius in sorted({row["epsilon_255"] for row in rows if row["norm"] == "linf"}):
        here = [row for row in rows if row["epsilon_255"] == radius and row["norm"] == "linf"]
        # Those that stop at the boundary, or know the detector, are counted by what reaches a patient.
        ranked = [row for row in here if not row["adaptive"] and not row["stops_at_boundary"]]
        found.append(
            {
                "epsilon_255": radius,
                "auc": min(({"attack": r["attack"], "value": r["auc"]} for r in ranked), key=_value, default=None),
                "wrong_and_unflagged": max((r["wrong_and_unflagged"] for r in here), key=lambda r: r.value),
                "adaptive_wrong_and_unflagged": rate(evaded[radius]) if radius in evaded else None,
            }
        )
    return found


def curve(clean: Scores, attacked: Scores) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the ROC curve's false and true positive rates."""
    false_positive, true_positive, _ = roc_curve(
        _sides(clean, attacked), _joined(clean, attacked), drop_intermediate=False
    )
    return false_positive, true_positive


def _value(entry: Mapping[str, Any]) -> float:
    return float(entry["value"])


def _sides(clean: Scores, attacked: Scores) -> npt.NDArray[np.int64]:
    return np.repeat([0, 1], [len(clean), len(attacked)])


def _joined(clean: Scores, attacked: Scores) -> Scores:
    return np.concatenate([clean, attacked])
