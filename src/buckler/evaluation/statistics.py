"""Rates with intervals, and tests of one model against another. No rate leaves Buckler without its interval."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from scipy.stats import binom, fisher_exact


@dataclass(frozen=True, slots=True)
class Rate:
    """A share ``value`` in 0..1 with its confidence interval ``low`` to ``high``."""

    value: float
    low: float
    high: float


def wilson(successes: int, total: int, confidence: float = 0.95) -> Rate:
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
    # At 0 and at all the bounds are exact; rounding would put them a hair off.
    return Rate(share, 0.0 if successes == 0 else centre - half, 1.0 if successes == total else centre + half)


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
