"""Detects whether served pictures have drifted from the calibration pictures.

A two-sample test compares each quantity of the newest traffic with that of the calibration pictures; Holm's method
corrects for the number of tests. In a large window even negligible differences are significant, so a quantity counts
as drifted only if its distance also exceeds a minimum set by the operator.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from buckler.errors import ParamsError
from buckler.params import Count, Positive, Real, Seed, Share
from buckler.serving.traffic import MEASURES, TrafficObservation

Kind = Literal["input", "features", "predictions", "detector"]
KINDS: tuple[Kind, ...] = ("input", "features", "predictions", "detector")
Numbers = npt.NDArray[np.float64]
Distance = Annotated[Share, Field(lt=1)]  # no distance is larger than 1: with it, nothing ever drifts

BINS = 20
ROWS_PER_PICTURE = 1.3
"""Mixed rows that are worth one independent picture: rows of a group share its mean, so they vary less."""
MAX_SKETCHES = 500  # pictures per sample; the kernel matrix grows quadratically
SMALLEST_EXPECTED = 5  # expected count per cell below which the chi-square approximation is invalid


@dataclass(frozen=True, slots=True)
class DriftParams:
    """Section ``drift`` of params.yaml.

    Attributes:
        window_hours: Maximum age of the traffic.
        window_records: Maximum number of pictures; the newest are used.
        min_records: Minimum number of pictures; with fewer, the job passes and reports that.
        alpha: Probability per run that at least one quantity of unchanged traffic counts as drifted.
        min_ks: Minimum Kolmogorov-Smirnov distance at which a number has drifted: the largest difference between the
            cumulative distributions, 0..1.
        min_total_variation: Minimum total variation at which labels or decisions have drifted, 0..1.
        min_mmd: Minimum maximum mean discrepancy at which features have drifted, 0..1.
        permutations: Number of permutations for p-values without a closed form.
        seed: Seed of the permutations.
    """

    window_hours: Annotated[Positive, Field(le=24 * 366)]
    window_records: Count
    min_records: Count
    alpha: Real
    min_ks: Distance
    min_total_variation: Distance
    min_mmd: Distance
    permutations: Annotated[Count, Field(le=1_000_000)]
    seed: Seed

    def __post_init__(self) -> None:
        """Reject settings that cannot detect drift.

        Raises:
            ParamsError: Too few permutations for ``alpha``, or too few pictures.
        """
        if not 0 < self.alpha < 1:
            raise ParamsError(f"drift.alpha: expected a probability above 0 and below 1, got {self.alpha}")
        needed = int(np.ceil(len(QUANTITIES) / self.alpha))
        if self.permutations < needed:
            raise ParamsError(
                f"drift.permutations: {self.permutations} cannot resolve alpha={self.alpha} over {len(QUANTITIES)} "
                f"quantities; need at least {needed}"
            )
        if not 2 <= self.min_records <= self.window_records:
            raise ParamsError(
                "drift.min_records: expected at least 2 and at most drift.window_records "
                f"({self.window_records}), got {self.min_records}"
            )


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of ``reference`` and ``window`` by bin: between ``edges``, the outer bins open; or by ``names``."""

    edges: tuple[float, ...]
    names: tuple[str, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DriftTest:
    """The test result of one quantity.

    Attributes:
        quantity, kind: The quantity and its kind.
        test: ``ks``, ``chi_square`` or ``mmd``.
        distance: Kolmogorov-Smirnov statistic, total variation or maximum mean discrepancy; each 0..1.
        min_distance: Minimum distance of a drift.
        p: Probability of at least this distance between two samples of the same traffic.
        p_corrected: After Holm's correction for all quantities.
        drifted: ``p_corrected`` is below alpha, and the distance reaches ``min_distance``.
        chart: Both samples, for display.
    """

    quantity: str
    kind: Kind
    test: str
    distance: float
    min_distance: float
    p: float
    p_corrected: float
    drifted: bool
    chart: Histogram


@dataclass(frozen=True, slots=True)
class _Tested:
    distance: float
    p: float
    chart: Histogram


@dataclass(frozen=True, slots=True)
class Quantity:
    """A compared quantity: kind, test, and a function that reads it from an observation (None if absent)."""

    kind: Kind
    test: str
    read: Callable[[TrafficObservation], object]


def _attribute(name: str) -> Callable[[TrafficObservation], object]:
    return lambda observation: getattr(observation, name)


_SIZES = ("width", "height", "size_bytes")
QUANTITIES: Mapping[str, Quantity] = {
    **{name: Quantity("input", "ks", _attribute(name)) for name in (*MEASURES, *_SIZES)},
    "features": Quantity("features", "mmd", _attribute("sketch")),
    "label": Quantity("predictions", "chi_square", _attribute("label")),
    "decision": Quantity("predictions", "chi_square", _attribute("decision")),
    "confidence": Quantity("predictions", "ks", _attribute("confidence")),
    "detector_score": Quantity("detector", "ks", _attribute("score")),
}


def compare(
    reference: Sequence[TrafficObservation], window: Sequence[TrafficObservation], cfg: DriftParams
) -> tuple[DriftTest, ...]:
    """Return the tests of those ``QUANTITIES`` that both samples have, in their order.

    Args:
        reference: Observations of the calibration pictures.
        window: Observations of served pictures.
        cfg: Significance level and minimum distances.

    Raises:
        ValueError: A sample has fewer than two pictures.
    """
    from buckler.evaluation.statistics import holm  # SciPy, which displaying results does not need

    if min(len(reference), len(window)) < 2:
        raise ValueError(f"expected at least 2 pictures in each sample, got {len(reference)} and {len(window)}")
    tested = {
        name: _TESTS[quantity.test](*sides, cfg)
        for name, quantity in QUANTITIES.items()
        if (sides := _sides(quantity, reference, window))
    }
    corrected = holm([each.p for each in tested.values()])
    return tuple(_as_test(name, each, p, cfg) for (name, each), p in zip(tested.items(), corrected, strict=True))


def _sides(
    quantity: Quantity, reference: Sequence[TrafficObservation], window: Sequence[TrafficObservation]
) -> tuple[list[object], list[object]] | None:
    # Pictures sent as pixels have no size. A quantity that fewer than two pictures have is not compared.
    first, second = (
        [value for each in side if (value := quantity.read(each)) is not None] for side in (reference, window)
    )
    return (first, second) if min(len(first), len(second)) >= 2 else None


def _as_test(name: str, tested: _Tested, p_corrected: float, cfg: DriftParams) -> DriftTest:
    quantity = QUANTITIES[name]
    least = {"ks": cfg.min_ks, "chi_square": cfg.min_total_variation, "mmd": cfg.min_mmd}[quantity.test]
    drifted = p_corrected < cfg.alpha and tested.distance >= least
    return DriftTest(
        name, quantity.kind, quantity.test, tested.distance, least, tested.p, p_corrected, drifted, tested.chart
    )


# --- the tests


def ks(reference: Sequence[object], window: Sequence[object], _: DriftParams) -> _Tested:
    """Compare two samples of numbers.

    Source: Kolmogorov-Smirnov test, asymptotic form, which is conservative for repeated values.
    """
    from scipy.stats import ks_2samp, kstwo

    a, b = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    distance = float(ks_2samp(a, b, method="asymp").statistic)
    pictures = len(a) * len(b) / (len(a) + len(b)) / ROWS_PER_PICTURE
    return _Tested(distance, float(kstwo.sf(distance, max(1, round(pictures)))), _histogram(a, b))


def chi_square(reference: Sequence[object], window: Sequence[object], cfg: DriftParams) -> _Tested:
    """Compare two samples of names by Pearson's chi-square test, with permutations for small counts."""
    names = sorted({str(each) for each in (*reference, *window)})
    counts = np.array([[list(side).count(name) for name in names] for side in (reference, window)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    chart = Histogram((), tuple(names), *(tuple(side.tolist()) for side in shares))
    return _Tested(distance, _chi_square_p(counts, cfg), chart)


def _chi_square_p(counts: npt.NDArray[np.int64], cfg: DriftParams) -> float:
    if counts.shape[1] < 2:
        return 1.0
    from scipy.stats import PermutationMethod, chi2_contingency

    found = chi2_contingency(counts, correction=False)
    if found.expected_freq.min() < SMALLEST_EXPECTED:
        generator = np.random.default_rng(cfg.seed)
        drawn = PermutationMethod(n_resamples=cfg.permutations, rng=generator)
        found = chi2_contingency(counts, correction=False, method=drawn)
    return float(found.pvalue)


def mmd(reference: Sequence[object], window: Sequence[object], cfg: DriftParams) -> _Tested:
    """Compare two samples of sketches by their maximum mean discrepancy under a Gaussian kernel.

    The kernel width is the median distance between pictures. The permutation p-value is valid for any distribution
    of the sketches.

    Source: Gretton et al., "A kernel two-sample test", JMLR 2012, eq. 3 and section 8 for the median.
    """
    from scipy.spatial.distance import cdist

    generator = np.random.default_rng(cfg.seed)
    a, b = (_at_most_max(np.asarray(side, np.float64), generator) for side in (reference, window))
    both = np.concatenate([a, b])
    squares = cdist(both, both, "sqeuclidean")
    width = float(np.median(squares[np.triu_indices(len(both), k=1)])) or 1.0
    kernel = np.exp(-squares / width)
    np.fill_diagonal(kernel, 0)
    in_first = np.zeros((1 + cfg.permutations, len(both)))  # row 0: the observed samples, then permutations
    in_first[0, : len(a)] = 1
    for row in in_first[1:]:
        row[generator.permutation(len(both))[: len(a)]] = 1
    values = _discrepancies(kernel, in_first)
    p = float((values >= values[0] - 1e-12).sum()) / len(values)  # includes the observed value
    centre, spread = a.mean(axis=0), a.std(axis=0) + 1e-9
    away = [np.sqrt((((side - centre) / spread) ** 2).mean(axis=1)) for side in (a, b)]
    return _Tested(float(np.sqrt(max(values[0], 0.0))), p, _histogram(*away))


def _discrepancies(kernel: Numbers, in_first: Numbers) -> Numbers:
    """Return the unbiased squared discrepancy for each row of ``in_first``: 1 for pictures of the first sample."""
    n = in_first[0].sum()
    m = len(kernel) - n
    towards_first = in_first @ kernel
    within_first = (towards_first * in_first).sum(axis=1)
    across = (towards_first * (1 - in_first)).sum(axis=1)
    within_second = kernel.sum() - within_first - 2 * across
    return np.asarray(within_first / (n * (n - 1)) + within_second / (m * (m - 1)) - 2 * across / (n * m))


def _at_most_max(sketches: Numbers, generator: np.random.Generator) -> Numbers:
    if len(sketches) <= MAX_SKETCHES:
        return sketches
    return sketches[generator.permutation(len(sketches))[:MAX_SKETCHES]]


_TESTS = {"ks": ks, "chi_square": chi_square, "mmd": mmd}


def _histogram(reference: Numbers, window: Numbers) -> Histogram:
    # Quantiles instead of extremes: a single outlier would squeeze all other values into one bin.
    low, high = np.quantile(np.concatenate([reference, window]), [0.005, 0.995])
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    shares = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] / len(side) for side in (reference, window)]
    return Histogram(tuple(edges.tolist()), (), *(tuple(side.tolist()) for side in shares))
