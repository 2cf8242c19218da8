"""Mixes measurements of served pictures, so that what is stored belongs to no picture.

The exact measurements of a picture are as good as its name: whoever has the picture finds its row. Drift needs only the
distribution of each quantity by itself. So the pictures wait until `GROUP` of them are there. Then each column of their
rows is shuffled by itself, its outliers are pulled in, and noise as wide as the group itself is added, after which mean
and spread of the group are restored. See docs/adr/0033.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from buckler.serving.traffic import MEASURES, TrafficObservation

GROUP: Final = 64
"""Pictures that are mixed with each other."""

MOMENT_SECONDS: Final = 3600.0
"""Resolution of the stored time."""

_SPREADS, _ROUNDS = 2.5, 3  # values beyond so many standard deviations are pulled in, repeatedly
_NOISE = 1.0  # standard deviation of the noise, in that of the group
_NOISE_OF_MEAN = 0.2  # the same of the group's mean
_NOISE_OF_SKETCH = 1.5  # the numbers of a sketch stay together, so they get more
_LEAST_SPREAD = 0.02  # of a group of equal pictures, relative to numbers above 1
_RARE = 3  # a size of fewer pictures of the group is replaced by the nearest of the others
_STEPS_PER_OCTAVE = 4  # of sizes
_LEAST_PROBABILITY = 1e-7

Numbers = npt.NDArray[np.float64]
_Value = TypeVar("_Value")


def secret_generator() -> np.random.Generator:
    """Return a generator whose seed nobody knows."""
    return np.random.Generator(np.random.PCG64DXSM(secrets.randbits(128)))


def mixed(
    observations: Sequence[TrafficObservation], generator: np.random.Generator, *, moment: float
) -> list[TrafficObservation]:
    """Return as many rows as ``observations``, none of which belongs to one of them.

    Args:
        observations: Those of one model, at least `GROUP` of them unless the pictures are no secret.
        generator: Source of order and noise.
        moment: Time of the rows, rounded down to `MOMENT_SECONDS`.
    """
    columns: dict[str, Sequence[Any]] = {"sketch": _blurred_together([each.sketch for each in observations], generator)}
    for names, treated in ((_NUMBERS, _blurred), (_SIZES, _coarse), (_NAMES, _shuffled)):
        for name in names:
            columns[name] = treated([getattr(each, name) for each in observations], generator)
    columns["sharpness"] = _skewed([each.sharpness for each in observations], np.log, np.exp, generator)
    columns["confidence"] = _skewed([each.confidence for each in observations], _logit, _share, generator)
    hour = moment - moment % MOMENT_SECONDS
    return [
        replace(each, moment=hour, **{name: column[place] for name, column in columns.items()})
        for place, each in enumerate(observations)
    ]


def mixed_in_groups(observations: Sequence[TrafficObservation], seed: int) -> list[TrafficObservation]:
    """Return ``observations`` as a service stores them: in groups of at least `GROUP`, as far as there are so many."""
    generator = np.random.default_rng(seed)
    groups = np.array_split(generator.permutation(len(observations)), max(1, len(observations) // GROUP))
    rows = [mixed([observations[place] for place in group], generator, moment=0.0) for group in groups if len(group)]
    return [row for group in rows for row in group]


_NUMBERS = (*(name for name in MEASURES if name != "sharpness"), "score")
_SIZES = ("width", "height", "size_bytes")
_NAMES = ("label", "decision")


def _blurred(values: Sequence[float] | Numbers, generator: np.random.Generator) -> list[float]:
    column = _pulled_in(generator.permutation(np.asarray(values, np.float64)))
    centre, spread = column.mean(), _spread(column)
    noise = generator.standard_normal(len(column))
    # The mean of all noise would hide the mean of the group, which is what drift changes: it gets its own, smaller one.
    noise += _NOISE_OF_MEAN * generator.standard_normal() / np.sqrt(len(column)) - noise.mean()
    blurred = centre + (column - centre + _NOISE * spread * noise) / np.sqrt(1 + _NOISE**2)
    return [float(each) for each in blurred]


def _skewed(
    values: Sequence[float],
    straightened: Callable[[Numbers], Numbers],
    back: Callable[[Numbers], Numbers],
    generator: np.random.Generator,
) -> list[float]:
    """Return ``values`` blurred on a scale on which their distribution is not skewed."""
    column = straightened(np.maximum(np.asarray(values, np.float64), _LEAST_PROBABILITY))
    return [float(each) for each in back(np.asarray(_blurred(column, generator)))]


def _logit(shares: Numbers) -> Numbers:
    bounded = np.clip(shares, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.asarray(np.log(bounded / (1 - bounded)))


def _share(logits: Numbers) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _blurred_together(sketches: Sequence[tuple[float, ...]], generator: np.random.Generator) -> list[tuple[float, ...]]:
    if not sketches[0]:
        return list(sketches)
    columns = [_pulled_in(column) for column in np.asarray(sketches, np.float64).T]
    noisy = [each + _NOISE_OF_SKETCH * _spread(each) * generator.standard_normal(len(each)) for each in columns]
    return [tuple(row) for row in generator.permutation(np.stack(noisy, axis=1)).tolist()]


def _pulled_in(column: Numbers) -> Numbers:
    for _ in range(_ROUNDS):
        centre, reach = column.mean(), _SPREADS * column.std()
        column = np.clip(column, centre - reach, centre + reach)
    return column


def _spread(column: Numbers) -> float:
    return float(max(column.std(), _LEAST_SPREAD * max(abs(column.mean()), 1.0)))


def _coarse(values: Sequence[int | None], generator: np.random.Generator) -> list[int | None]:
    steps = [None if each is None else round(_STEPS_PER_OCTAVE * np.log2(max(each, 1))) for each in values]
    counts = Counter(step for step in steps if step is not None)
    common = [step for step, count in counts.items() if count >= _RARE]
    if not common:
        return [None] * len(values)
    kept = [None if step is None else min(common, key=partial(_distance, step)) for step in steps]
    return _shuffled([None if step is None else round(2 ** (step / _STEPS_PER_OCTAVE)) for step in kept], generator)


def _distance(step: int, other: int) -> tuple[int, int]:
    return abs(other - step), other


def _shuffled(values: Sequence[_Value], generator: np.random.Generator) -> list[_Value]:
    return [values[place] for place in generator.permutation(len(values))]
