"""Tells whether what is served has changed from what the model's lines were drawn on: numbers in, findings out.

Each quantity of the newest traffic is held against the same quantity of the calibration pictures by a test of two
samples, and Holm's method allows for there being many. A large window finds the smallest difference, and most of them
matter to nobody: something has only drifted if it is also further off than a distance that the operator sets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from buckler.errors import ParamsError
from buckler.modality.picture.measures import TRAFFIC_MEASURES
from buckler.serving.traffic import Observation

Kind = Literal["input", "features", "predictions", "detector"]
KINDS: tuple[Kind, ...] = ("input", "features", "predictions", "detector")
Numbers = npt.NDArray[np.float64]

BINS = 20
MOST_FOR_FEATURES = 500  # pictures a side; the kernel's matrix grows with the square
SMALLEST_EXPECTED = 5  # pictures in a cell of the table, below which chi-square's own distribution does not hold


@dataclass(frozen=True, slots=True)
class DriftParams:
    """Section ``drift`` of params.yaml.

    Attributes:
        window_hours: Traffic that is older is not looked at.
        window_records: Of more than so many the newest are.
        min_records: Fewer say nothing: the job passes and says so.
        alpha: Probability of calling clean traffic drifted, in any of the quantities, each time the job runs.
        min_ks: A number has drifted from this Kolmogorov-Smirnov distance on: the largest gap between the shares of
            pictures below any value, 0..1.
        min_total_variation: Labels and decisions, from this share of pictures that would have to change theirs.
        min_mmd: Features, from this maximum mean discrepancy, 0..1.
        permutations: Drawn for p-values that no formula gives.
        seed: Of them.
    """

    window_hours: float
    window_records: int
    min_records: int
    alpha: float
    min_ks: float
    min_total_variation: float
    min_mmd: float
    permutations: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse what cannot find anything.

        Raises:
            ParamsError: There are too few permutations for ``alpha``, or too few pictures.
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
class Chart:
    """Shares of ``reference`` and ``window`` by bin: between ``edges``, the outer bins open; or by ``names``."""

    edges: tuple[float, ...]
    names: tuple[str, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the test of one quantity says.

    Attributes:
        quantity, kind: Which.
        test: ``ks``, ``chi_square`` or ``mmd``.
        distance: Kolmogorov-Smirnov statistic, total variation or maximum mean discrepancy; each 0..1.
        min_distance: From which on it counts.
        p: Probability of so large a distance between two samples of the same traffic.
        p_corrected: After Holm's correction for all quantities.
        drifted: ``p_corrected`` is below alpha, and the distance counts.
        chart: Both sides, for people.
    """

    quantity: str
    kind: Kind
    test: str
    distance: float
    min_distance: float
    p: float
    p_corrected: float
    drifted: bool
    chart: Chart


@dataclass(frozen=True, slots=True)
class _Tested:
    distance: float
    p: float
    chart: Chart


@dataclass(frozen=True, slots=True)
class Quantity:
    """One thing that is compared: by which test, and how it is read from an observation, None where it has none."""

    kind: Kind
    test: str
    read: Callable[[Observation], object]


def _confidence(observation: Observation) -> float:
    return max(observation.probabilities.values())


def _attribute(name: str) -> Callable[[Observation], object]:
    return lambda observation: getattr(observation, name)


_SIZES = ("width", "height", "size_bytes")
QUANTITIES: Mapping[str, Quantity] = {
    **{name: Quantity("input", "ks", _attribute(name)) for name in (*TRAFFIC_MEASURES, *_SIZES)},
    "features": Quantity("features", "mmd", _attribute("sketch")),
    "label": Quantity("predictions", "chi_square", _attribute("label")),
    "decision": Quantity("predictions", "chi_square", _attribute("decision")),
    "confidence": Quantity("predictions", "ks", _confidence),
    "detector_score": Quantity("detector", "ks", _attribute("score")),
}


def compare(reference: Sequence[Observation], window: Sequence[Observation], cfg: DriftParams) -> tuple[Finding, ...]:
    """Return what is found of each of ``QUANTITIES`` that both sides have, in their order.

    Args:
        reference: Of pictures like those that the model's lines were drawn on.
        window: Of served pictures.
        cfg: How sure one has to be.

    Raises:
        ValueError: A side has fewer than two pictures.
    """
    from buckler.evaluation.statistics import holm  # SciPy, as below: whoever only shows what was found needs none

    if min(len(reference), len(window)) < 2:
        raise ValueError(f"expected at least 2 pictures a side, got {len(reference)} and {len(window)}")
    tested = {
        name: _TESTS[quantity.test](*sides, cfg)
        for name, quantity in QUANTITIES.items()
        if (sides := _sides(quantity, reference, window))
    }
    corrected = holm([each.p for each in tested.values()])
    return tuple(_finding(name, each, p, cfg) for (name, each), p in zip(tested.items(), corrected, strict=True))


def _sides(
    quantity: Quantity, reference: Sequence[Observation], window: Sequence[Observation]
) -> tuple[list[object], list[object]] | None:
    # Pictures that were sent as pixels have no size of their own; a quantity that few have is not compared.
    first, second = (
        [value for each in side if (value := quantity.read(each)) is not None] for side in (reference, window)
    )
    return (first, second) if min(len(first), len(second)) >= 2 else None


def _finding(name: str, tested: _Tested, p_corrected: float, cfg: DriftParams) -> Finding:
    quantity = QUANTITIES[name]
    least = {"ks": cfg.min_ks, "chi_square": cfg.min_total_variation, "mmd": cfg.min_mmd}[quantity.test]
    drifted = p_corrected < cfg.alpha and tested.distance >= least
    return Finding(
        name, quantity.kind, quantity.test, tested.distance, least, tested.p, p_corrected, drifted, tested.chart
    )


# --- the tests


def ks(reference: Sequence[object], window: Sequence[object], _: DriftParams) -> _Tested:
    """Compare two samples of numbers.

    Source: Kolmogorov-Smirnov, in its asymptotic form, which errs on the side of no drift where values repeat.
    """
    from scipy.stats import ks_2samp

    a, b = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    found = ks_2samp(a, b, method="asymp")
    return _Tested(float(found.statistic), float(found.pvalue), _histogram(a, b))


def chi_square(reference: Sequence[object], window: Sequence[object], cfg: DriftParams) -> _Tested:
    """Compare two samples of names by Pearson's chi-square; of few pictures by its permutations."""
    names = sorted({str(each) for each in (*reference, *window)})
    counts = np.array([[list(side).count(name) for name in names] for side in (reference, window)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    chart = Chart((), tuple(names), *(tuple(side.tolist()) for side in shares))
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

    Its width is the median distance between pictures; the p-value is by permutation, so it holds whatever the
    sketches' distribution.

    Source: Gretton et al., "A kernel two-sample test", JMLR 2012, eq. 3 and section 8 for the median.
    """
    from scipy.spatial.distance import cdist

    generator = np.random.default_rng(cfg.seed)
    a, b = (_some(np.asarray(side, np.float64), generator) for side in (reference, window))
    both = np.concatenate([a, b])
    squares = cdist(both, both, "sqeuclidean")
    width = float(np.median(squares[np.triu_indices(len(both), k=1)])) or 1.0
    kernel = np.exp(-squares / width)
    np.fill_diagonal(kernel, 0)
    first = np.zeros((1 + cfg.permutations, len(both)))
    first[0, : len(a)] = 1
    for row in first[1:]:
        row[generator.permutation(len(both))[: len(a)]] = 1
    values = _discrepancies(kernel, first)
    p = float((values >= values[0] - 1e-12).sum()) / len(values)  # the observed one counts among them
    centre, spread = a.mean(axis=0), a.std(axis=0) + 1e-9
    away = [np.sqrt((((side - centre) / spread) ** 2).mean(axis=1)) for side in (a, b)]
    return _Tested(float(np.sqrt(max(values[0], 0.0))), p, _histogram(*away))


def _discrepancies(kernel: Numbers, first: Numbers) -> Numbers:
    """Return the unbiased squared discrepancy for each row of ``first``, 1 where a picture is of the first sample."""
    n = first[0].sum()
    m = len(kernel) - n
    towards_first = first @ kernel
    within_first = (towards_first * first).sum(axis=1)
    across = (towards_first * (1 - first)).sum(axis=1)
    within_second = kernel.sum() - within_first - 2 * across
    return np.asarray(within_first / (n * (n - 1)) + within_second / (m * (m - 1)) - 2 * across / (n * m))


def _some(sketches: Numbers, generator: np.random.Generator) -> Numbers:
    if len(sketches) <= MOST_FOR_FEATURES:
        return sketches
    return sketches[generator.permutation(len(sketches))[:MOST_FOR_FEATURES]]


_TESTS = {"ks": ks, "chi_square": chi_square, "mmd": mmd}


def _histogram(reference: Numbers, window: Numbers) -> Chart:
    # Up to the rarest values only: one outlier would put all others into one bin.
    low, high = np.quantile(np.concatenate([reference, window]), [0.005, 0.995])
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    shares = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] / len(side) for side in (reference, window)]
    return Chart(tuple(edges.tolist()), (), *(tuple(side.tolist()) for side in shares))
