"""What the decisions on clean test pictures miss and cost, and how far the served probabilities can be believed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from buckler.detection.danger import harmless_scores
from buckler.detection.reasons import Reason
from buckler.detection.screening import Flags, Screening
from buckler.evaluation.accuracy import bins_of
from buckler.evaluation.statistics import lower_bound, share_of
from buckler.measurements.decisions import ConfidenceBin, DangerLimit, Decisions
from buckler.measurements.results import Rate
from buckler.modality.base import Labels
from buckler.models.forward import Logits


def confidence_bins(
    confidence: npt.NDArray[np.float32], right: npt.NDArray[np.bool_], bins: int
) -> tuple[ConfidenceBin, ...]:
    """Return the non-empty of ``bins`` equal-width bins over the probability of the label, ``confidence`` (n,)."""
    return tuple(
        ConfidenceBin(
            low=place / bins,
            high=(place + 1) / bins,
            confidence=float(confidence[here].mean()),
            pictures=int(here.sum()),
            right=int(right[here].sum()),
        )
        for place, here in bins_of(confidence, bins)
    )


def measured_limit(screening: Screening, logits: Logits, truth: Labels) -> DangerLimit | None:
    """Return the limit of ``screening`` and what it misses of the calibration pictures; None without dangerous labels.

    Args:
        screening: With the limit that was set on these pictures.
        logits: Of the calibration pictures, ``(n, classes)``.
        truth: Their true class indices, ``(n,)``.
    """
    if not screening.dangerous:
        return None
    own = np.isin(truth, screening.dangerous)
    scores = harmless_scores(logits[own], screening.probabilities(logits[own]), screening.dangerous)
    limit = -np.inf if screening.danger_limit is None else screening.danger_limit
    count, missed = len(scores), int((scores <= limit).sum())
    return DangerLimit(
        limit=screening.danger_limit,
        min_sensitivity=screening.min_sensitivity,
        confidence=screening.confidence,
        pictures=count,
        missed=missed,
        sensitivity_low=lower_bound(count - missed, count, screening.confidence) if count else None,
    )


def measure(flags: Flags, answers: Labels, truth: Labels, dangerous: Sequence[int]) -> Decisions:
    """Return what decisions miss and cost.

    Args:
        flags: Reason -> which pictures have it, ``(n,)``; a picture with any gets the decision ``review``.
        answers: Class indices of the labels given, ``(n,)``.
        truth: True class indices, ``(n,)``.
        dangerous: Indices of the labels that must not be missed.
    """
    review = np.any(list(flags.values()), axis=0)
    danger = np.isin(truth, list(dangerous))
    missed = ~np.isin(answers, list(dangerous)) & ~review
    return Decisions(
        accepted_misses=share_of(missed[danger]),
        reviews=_share(review),
        harmless_reviews=share_of(review[~danger]),
        dangerous_reviews=share_of(review[danger]),
        reasons={reason.value: _share(held) for reason, held in flags.items()},
    )


def without_limit(flags: Flags) -> Flags:
    """Return ``flags`` as if a harmless label needed no limit."""
    return {reason: held for reason, held in flags.items() if reason != Reason.DANGER_NOT_EXCLUDED}


def _share(flags: npt.NDArray[np.bool_]) -> Rate:
    rate = share_of(flags)
    if rate is None:
        raise ValueError("expected at least one picture, got none")
    return rate
