"""Sets how probable the dangerous labels may be at most in an answer with a harmless label.

Only dangerous calibration records count: the limit bounds the share of dangerous records that pass as harmless. Other
checks of the input do not count: a detector's false alarm on a dangerous record is luck, and says nothing of danger.
"""

import math
from collections.abc import Sequence
from itertools import count

import numpy as np
import numpy.typing as npt

from buckler.detection.threshold import Scores, most_above
from buckler.models.forward import Logits


def harmless_scores(logits: Logits, shares: npt.NDArray[np.float32], dangerous: Sequence[int]) -> Scores:
    """Return how probable all dangerous labels together are, ``(n,)``; infinite where the label itself is dangerous.

    Args:
        logits: ``(n, classes)``; the largest decides the label, the first of several.
        shares: Calibrated probabilities of the same records, ``(n, classes)``.
        dangerous: Indices of the dangerous labels.
    """
    # In float64, because NumPy compares a float32 array with a limit that was rounded to float32.
    together = shares[:, list(dangerous)].sum(axis=1, dtype=np.float64)
    return np.where(np.isin(logits.argmax(axis=1), list(dangerous)), np.inf, together)


def danger_limit(scores: Scores, min_sensitivity: float, confidence: float) -> float | None:
    """Return the highest limit at which at least ``min_sensitivity`` of all dangerous records exceed it.

    A dangerous record whose score does not exceed the limit passes as harmless: a miss. With ``confidence``, at least
    ``min_sensitivity`` of all dangerous records are not missed: the lower bound of Clopper and Pearson for this share
    on the calibration records is at least ``min_sensitivity``.

    Args:
        scores: Of dangerous calibration records, as `harmless_scores`, ``(n,)``.
        min_sensitivity: Least share of dangerous records that do not pass as harmless, in 0..1.
        confidence: Probability over the choice of the calibration records, in 0..1.

    Returns:
        At most 1, which no probability exceeds; None if there are too few records to set a limit.

    Source: Clopper & Pearson 1934, see `buckler.detection.threshold.most_above`; as an order statistic, Wilks,
        "Determination of sample sizes for setting tolerance limits", 1941; for the use as a limit of risk, Angelopoulos
        et al., "Conformal risk control", arXiv 2208.02814.
    """
    misses = most_above(len(scores), 1 - min_sensitivity, confidence)
    if misses < 0:
        return None
    # Just below the first record that may not be missed, and so below its equals.
    return min(1.0, float(np.nextafter(np.sort(scores)[misses], -np.inf)))


def dangerous_needed(min_sensitivity: float, confidence: float, *, misses: int = 0) -> int:
    """Return how many dangerous calibration records `danger_limit` needs to allow ``misses`` of them.

    Args:
        min_sensitivity, confidence: As `danger_limit`, both above 0 and below 1.
        misses: Dangerous calibration records that may pass as harmless.
    """
    without_miss = math.floor(math.log(1 - confidence) / math.log(min_sensitivity))
    return next(n for n in count(max(1, without_miss)) if most_above(n, 1 - min_sensitivity, confidence) >= misses)
