"""Rows of the detector's report: the same test pictures clean, attacked, changed without attack, or of another kind.

The thresholds are fixed before, by `pipelines/calibrate.py`; no attacked picture influences them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score, roc_curve

from buckler.detection.reasons import ANSWER_REASONS, Reason
from buckler.detection.screening import Flags, Screening
from buckler.detection.threshold import Scores
from buckler.evaluation.statistics import wilson
from buckler.measurements.detection import (
    BenignChange,
    DetectedAttack,
    FlaggedSubgroup,
    RiskPoint,
    Strangers,
    WeakestDetection,
    WorstDetection,
)
from buckler.measurements.results import Rate
from buckler.modality.base import Images, Labels
from buckler.models.forward import Forward
from buckler.radius import StatedRadius

FPRS = (0.01, 0.05)
Flagged = npt.NDArray[np.bool_]  # (n,), one value for each picture


@dataclass(frozen=True, slots=True)
class Screened:
    """Answers to some pictures and the result of their screening: ``scores`` (n,), ``flags`` by reason."""

    forward: Forward
    scores: Scores
    flags: Flags

    @classmethod
    def of(cls, screening: Screening, images: Images, forward: Forward) -> "Screened":
        """Screen ``images`` (n, size, size, channels) and the network's answers to them, ``forward``."""
        return cls(forward, *screening.flags(images, forward))

    def subset(self, rows: npt.NDArray[np.intp]) -> "Screened":
        """Return the part for the pictures at ``rows``."""
        forward = Forward(self.forward.logits[rows], self.forward.features[rows])
        return Screened(forward, self.scores[rows], {reason: flags[rows] for reason, flags in self.flags.items()})

    def wrong_and_unflagged(self, truth: Labels) -> Flagged:
        """Return which answers are wrong and not flagged: these can harm a patient."""
        return np.asarray(self.wrong(truth) & ~self.flagged)

    @property
    def flagged(self) -> Flagged:
        """Return which pictures need a person's review for a reason in the picture itself.

        Reasons in the probabilities of the labels do not count: an attacker can choose these freely.
        """
        found = [flags for reason, flags in self.flags.items() if reason not in ANSWER_REASONS]
        return np.asarray(np.any(found, axis=0))

    def wrong(self, truth: Labels) -> Flagged:
        """Return which answers are not the ``truth`` (n,)."""
        return np.asarray(self.forward.logits.argmax(axis=1) != truth)


def rate(flags: Flagged) -> Rate:
    """Return the share of true values, with its interval."""
    return wilson(int(flags.sum()), len(flags))


def clean_rates(clean: Screened) -> dict[str, Rate]:
    """Return the share of clean pictures flagged for each reason, and for ``any``."""
    return {reason.value: rate(flags) for reason, flags in clean.flags.items()} | {"any": rate(clean.flagged)}


def subgroup_rows(clean: Screened, groups: Mapping[tuple[str, str], Flagged]) -> tuple[FlaggedSubgroup, ...]:
    """Return how often the detector flags the clean pictures of each group that has any."""
    flags = clean.flags[Reason.ADVERSARIAL]
    return tuple(
        FlaggedSubgroup(column, group, rate(flags[members]))
        for (column, group), members in groups.items()
        if members.any()
    )


def attack_row(
    clean: Screened, attacked: Screened, truth: Labels, *, adaptive: bool = False, **facts: Any
) -> DetectedAttack:
    """Return the row of one attack at one radius; ``facts`` are the fields that name both."""
    false_positive, true_positive = curve(clean.scores, attacked.scores)
    tpr = {f"{f:.2f}": float(true_positive[np.searchsorted(false_positive, f, side="right") - 1]) for f in FPRS}
    count = len(truth)
    return DetectedAttack(
        **facts,
        adaptive=adaptive,
        auc=float(
            roc_auc_score(_attacked_or_clean(clean.scores, attacked.scores), _joined(clean.scores, attacked.scores))
        ),
        tpr_at_fpr=tpr,
        tpr_at_fpr_interval={fpr: wilson(round(share * count), count).interval for fpr, share in tpr.items()},
        flagged=rate(attacked.flags[Reason.ADVERSARIAL]),
        wrong=rate(attacked.wrong(truth)),
        wrong_and_unflagged=rate(attacked.wrong_and_unflagged(truth)),
    )


def benign_change_row(clean: Screened, changed: Screened, name: str) -> BenignChange:
    """Return the row of a benign change, which should be flagged no more often than clean pictures are."""
    auc = roc_auc_score(_attacked_or_clean(clean.scores, changed.scores), _joined(clean.scores, changed.scores))
    return BenignChange(name, float(auc), rate(changed.flags[Reason.ADVERSARIAL]))


def strangers_row(foreign: Screened, name: str) -> Strangers:
    """Return how often pictures of another kind are flagged, and for which reasons."""
    reasons = {r.value: rate(flags) for r, flags in foreign.flags.items() if r not in ANSWER_REASONS}
    return Strangers(name, rate(foreign.flagged), reasons)


def risk_coverage(clean: Screened, truth: Labels, points: int = 20) -> tuple[RiskPoint, ...]:
    """Return the share of wrong answers among the least suspicious pictures, for growing shares of them."""
    wrong = clean.wrong(truth)[np.argsort(clean.scores, kind="stable")]
    counts = np.unique(np.linspace(len(wrong) / points, len(wrong), points).round().astype(int))
    return tuple(RiskPoint(float(n / len(wrong)), float(wrong[:n].mean())) for n in counts if n)


def worst_by_radius(
    rows: Sequence[DetectedAttack], evaded: Mapping[StatedRadius, Flagged]
) -> tuple[WorstDetection, ...]:
    """Return for each L-infinity radius the attack that the detector separates worst, and unflagged errors.

    Args:
        rows: Of the report's attacks.
        evaded: Radius -> for which pictures (n,) an attacker who knows the detector evades it, by any objective.
    """
    found = []
    for radius in sorted({row.radius for row in rows if row.norm == "linf"}):
        here = [row for row in rows if row.radius == radius and row.norm == "linf"]
        # Attacks that stop at the boundary or know the detector are not ranked by AUC, but by unflagged errors.
        ranked = [WeakestDetection(row.attack, row.auc) for row in here if not (row.adaptive or row.stops_at_boundary)]
        found.append(
            WorstDetection(
                radius,
                auc=min(ranked, key=lambda each: each.value, default=None),
                wrong_and_unflagged=max((row.wrong_and_unflagged for row in here), key=lambda each: each.value),
                adaptive_wrong_and_unflagged=rate(evaded[radius]) if radius in evaded else None,
            )
        )
    return tuple(found)


def curve(
    clean: Scores, attacked: Scores, *, corners: bool = False
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the ROC curve's false and true positive rates; with ``corners``, without points on straight lines."""
    truth, scores = _attacked_or_clean(clean, attacked), _joined(clean, attacked)
    false_positive, true_positive, _ = roc_curve(truth, scores, drop_intermediate=corners)
    return false_positive, true_positive


def _attacked_or_clean(clean: Scores, attacked: Scores) -> npt.NDArray[np.int64]:
    return np.repeat([0, 1], [len(clean), len(attacked)])


def _joined(clean: Scores, attacked: Scores) -> Scores:
    return np.concatenate([clean, attacked])
