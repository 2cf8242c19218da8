"""Sets the threshold of a score on clean calibration records only, never on attacked ones."""

import math

import numpy as np
import numpy.typing as npt

from buckler.errors import ParamsError

Scores = npt.NDArray[np.float64]  # (n,), higher is more suspicious


def threshold_at(scores: Scores, max_fpr: float, confidence: float) -> float:
    """Return the lowest threshold that at most ``max_fpr`` of all clean records exceed, with ``confidence``.

    The share of the calibration records above a threshold is an uncertain estimate. The threshold is chosen such that,
    if more than ``max_fpr`` of all clean records exceeded it, so few calibration records above it would have a
    probability of at most one minus ``confidence``.

    Args:
        scores: Scores of clean calibration records, ``(n,)``; higher is more suspicious.
        max_fpr: Maximum false-positive rate, in 0..1.
        confidence: Probability over the choice of the calibration records, in 0..1.

    Raises:
        ParamsError: Too few scores to bound ``max_fpr`` with that confidence.

    Source: Wilks, "Determination of sample sizes for setting tolerance limits", 1941; Vovk, "Conditional validity of
        inductive conformal predictors", 2012, proposition 2b.
    """
    check_enough(len(scores), max_fpr, confidence)
    above = most_above(len(scores), max_fpr, confidence)
    return float(np.sort(scores)[len(scores) - 1 - above])


def check_enough(count: int, max_fpr: float, confidence: float) -> None:
    """Check that `threshold_at` can set a threshold on ``count`` clean calibration records.

    Raises:
        ParamsError: Too few: even with none above the threshold, more than ``max_fpr`` of all clean records may be.
    """
    if most_above(count, max_fpr, confidence) < 0:
        needed = records_needed(max_fpr, confidence)
        raise ParamsError(
            f"params.yaml: expected at least {needed} calibration records for calibrate.max_fpr {max_fpr} with "
            f"calibrate.confidence {confidence}, got {count}; add records, raise split.calibration or "
            "calibrate.max_fpr, or lower calibrate.confidence"
        )


def records_needed(max_fpr: float, confidence: float) -> int:
    """Return how many clean calibration records `threshold_at` needs."""
    return math.floor(math.log(1 - confidence) / math.log(1 - max_fpr)) + 1


def most_above(count: int, share: float, confidence: float) -> int:
    """Return how many of ``count`` records may lie on the wrong side of a threshold; -1 if there are too few records.

    If at least ``share`` of all records lay there, at most so many of ``count`` would have a probability of at most one
    minus ``confidence``. This is the most for which the upper bound of Clopper and Pearson does not exceed ``share``.

    Source: Clopper & Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.
    """
    total, above = 0.0, -1
    while above + 1 < count:
        total += _binomial(count, above + 1, share)
        if total > 1 - confidence:
            break
        above += 1
    return above


def _binomial(count: int, successes: int, share: float) -> float:
    # Logarithms: from about a thousand scores on, the coefficient alone would overflow a float.
    ways = math.lgamma(count + 1) - math.lgamma(successes + 1) - math.lgamma(count - successes + 1)
    return math.exp(ways + successes * math.log(share) + (count - successes) * math.log1p(-share))
