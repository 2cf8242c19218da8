"""Rates with confidence intervals, and significance tests between models."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom, fisher_exact

from buckler.measurements.results import Rate

CONFIDENCE = 0.95


def share_of(flags: npt.NDArray[np.bool_]) -> Rate | None:
    """Return the share of true values in ``flags`` (n,) as a rate; None if there are none at all."""
    return wilson(int(flags.sum()), len(flags)) if len(flags) else None


def wilson(successes: int, total: int, confidence: float = CONFIDENCE) -> Rate:
    """Return ``successes / total`` with its Wilson score interval.

    Raises:
        ValueError: ``total`` is not positive, or ``successes`` lies outside 0..total.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if not 0 <= successes <= total or total == 0:
        raise ValueError(f"expected 0 <= successes <= total and total > 0, got {successes} of {total}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At no and at all successes one bound is exact; rounding would move it slightly.
    low, high = 0.0 if successes == 0 else centre - half, 1.0 if successes == total else centre + half
    return Rate(share, low, high, total)


def lower_bound(successes: int, total: int, confidence: float = CONFIDENCE) -> float:
    """Return the exact one-sided lower confidence bound of the share ``successes / total``.

    Raises:
        ValueError: ``total`` is not positive, or ``successes`` lies outside 0..total.

    Source: Clopper & Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.
    """
    if not 0 <= successes <= total or total == 0:
        raise ValueError(f"expected 0 <= successes <= total and total > 0, got {successes} of {total}")
    return float(beta.ppf(1 - confidence, successes, total - successes + 1)) if successes else 0.0


def smallest_sample(share: float, margin: float, confidence: float = CONFIDENCE) -> int:
    """Return how many pictures are needed to estimate a rate near ``share`` to plus or minus ``margin``.

    This is the smallest number for which half the width of the Wilson interval around ``share`` is at most ``margin``.

    Args:
        share: The expected share, for example a floor of the gate.
        margin: Half the width of the interval, above 0 and below one half.
        confidence: Of the interval.

    Raises:
        ValueError: ``share`` is outside 0..1, or ``margin`` is not above 0 and below one half.

    Source: Piegorsch, "Sample sizes for improved binomial confidence intervals", 2004: half the width of
    Wilson's interval, solved for the number.
    """
    if not (0 <= share <= 1 and 0 < margin < 0.5):
        raise ValueError(f"expected a share in 0..1 and a margin above 0 and below 0.5, got {share} and {margin}")
    z, spread, square = NormalDist().inv_cdf(0.5 + confidence / 2), share * (1 - share), margin * margin
    root = math.sqrt(spread * spread + square * (1 - 4 * spread))
    # If the exact number is whole, rounding errors must not add a picture.
    return max(1, math.ceil(z * z * (spread - 2 * square + root) / (2 * square) - 1e-9))


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Return the exact one-sided p-value for "b is worse than a" on the same pictures.

    Args:
        only_a: Pictures that a gets right and b wrong.
        only_b: Pictures that b gets right and a wrong.

    Source: McNemar 1947, exact form: under equality ``only_a`` is binomial with one half.
    """
    return float(binom.sf(only_a - 1, only_a + only_b, 0.5)) if only_a else 1.0


def two_proportions_p(right_a: int, total_a: int, right_b: int, total_b: int) -> float:
    """Return Fisher's exact one-sided p-value for "b's share is lower than a's" on different pictures."""
    table = [[right_a, total_a - right_a], [right_b, total_b - right_b]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def below_p(right: int, total: int, floor: float) -> float:
    """Return the exact one-sided p-value for "the true share is below ``floor``": the chance of so few right, or fewer.

    Source: Clopper & Pearson 1934, the exact binomial test.
    """
    return float(binom.cdf(right, total, floor))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return ``p_values`` adjusted for multiple comparisons, in their order.

    If all adjusted values below alpha are called significant, the probability of at least one error is at most alpha,
    for any dependence between the tests.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    count, largest = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, place in enumerate(sorted(range(count), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
