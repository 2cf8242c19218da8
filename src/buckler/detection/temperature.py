"""Calibrates probabilities: one temperature divides all logits, so that confidence and accuracy agree.

The order of the classes stays the same, and so does the label.
"""

import numpy as np

from buckler.modality.base import Labels
from buckler.models.forward import Logits

COLDEST, HOTTEST = 0.01, 100.0
_HALVINGS = 60  # of the interval; the rest is below the rounding error of a float


def fit_temperature(logits: Logits, truth: Labels) -> float:
    """Return the temperature that minimises the negative log-likelihood of the true classes.

    The true class of ``n`` records counts as ``n + 1`` of ``n + classes``, each other class as one: a network that gets
    every calibration record right would otherwise be called certain of every answer.

    Args:
        logits: Of calibration records, on which the network was not trained, ``(n, classes)``.
        truth: Their true class indices, ``(n,)``.

    Returns:
        A number in ``COLDEST`` to ``HOTTEST``; one if there is nothing to fit.

    Source: Guo et al., "On calibration of modern neural networks", arXiv 1706.04599, section 4.2; Platt,
        "Probabilistic outputs for support vector machines", 1999, for the targets.
    """
    if not len(logits) or not np.ptp(logits, axis=1).any():
        return 1.0
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    count, classes = shifted.shape
    targets = (np.eye(classes)[truth] * count + 1) / (count + classes)
    wanted = float((targets * shifted).sum())
    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # The likelihood is concave in the inverse temperature; its slope is the wanted less the expected logits.
        shares = np.exp(shifted * np.exp(middle))
        expected = float((shares / shares.sum(axis=1, keepdims=True) * shifted).sum())
        low, high = (middle, high) if wanted > expected else (low, middle)
    return float(np.exp(-(low + high) / 2))
