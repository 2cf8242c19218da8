"""Worst-case rates of all pictures and of subgroups: one sex, one age band, one site, one class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from buckler.errors import DataError
from buckler.evaluation.statistics import Rate

LABEL = "label"
UNKNOWN = "unknown"
_MISSING = ("", "nan", UNKNOWN)

Bands = Mapping[str, Sequence[float]]  # column -> cut points of its numbers; without any, each value is a group
Members = npt.NDArray[np.bool_]  # (n,), which pictures belong


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Rates up to one radius under all attacks together: a picture counts as robust if every attack leaves it right.

    Attributes:
        robust_accuracy: Share right when clean and under every attack.
        malignant_to_benign_rate: Share of dangerous pictures that some attack gives a harmless label.
        sensitivity: Share of dangerous pictures given a dangerous label when clean and under every attack.
        specificity: Share of harmless pictures given a harmless label when clean and under every attack.

    The last three are None if there are no such pictures, or if all labels are dangerous or none is.
    """

    epsilon_255: int
    robust_accuracy: Rate
    malignant_to_benign_rate: Rate | None
    sensitivity: Rate | None
    specificity: Rate | None


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Results for the pictures whose manifest has ``group`` in ``column``."""

    column: str
    group: str
    pictures: int
    clean_accuracy: Rate
    worst_case: tuple[WorstCase, ...]


def groups(columns: Mapping[str, Sequence[str]], bands: Bands) -> dict[tuple[str, str], Members]:
    """Return the members of every group: by ``(column, group)``, the class first, in the order of ``bands``.

    Args:
        columns: The manifest's columns of the pictures, as text.
        bands: The columns to group by. One without cuts has a group a value. One with cuts, for example
            ``age: [40, 60]``, has numbers and the groups ``under 40``, ``40 to under 60`` and ``60 and over``.
            The class (``label``) is always a grouping. Empty values, ``nan`` and ``unknown`` are the group ``unknown``.

    Raises:
        DataError: The manifest lacks a column, a column with cuts has a value that is no number, or the cuts do not
            rise.
    """
    lacking = [column for column in bands if column not in columns]
    if lacking:
        raise DataError(
            f"attack.subgroups asks for the columns {lacking}, the manifest has {sorted(columns)}; add them to the"
            " source's metadata.csv and run `dvc repro`, or remove them from attack.subgroups"
        )
    found: dict[tuple[str, str], Members] = {}
    for column, cuts in {LABEL: (), **bands}.items():
        names = np.array([_group(column, value.strip(), cuts) for value in columns[column]])
        found |= {(column, name): names == name for name in _in_order(names, cuts)}
    return found


def _group(column: str, value: str, cuts: Sequence[float]) -> str:
    if value.lower() in _MISSING:
        return UNKNOWN
    if not cuts:
        return value
    try:
        return _band_names(column, cuts)[int(np.searchsorted(cuts, float(value), side="right"))]
    except ValueError as error:
        raise DataError(
            f"attack.subgroups cuts the column {column!r} at {list(cuts)}, so numbers are expected there, got {value!r}"
        ) from error


def _band_names(column: str, cuts: Sequence[float]) -> list[str]:
    if any(low >= high for low, high in pairwise(cuts)):
        raise DataError(f"expected rising cuts in attack.subgroups.{column}, got {list(cuts)}")
    between = [f"{low:g} to under {high:g}" for low, high in pairwise(cuts)]
    return [f"under {cuts[0]:g}", *between, f"{cuts[-1]:g} and over"]


def _in_order(names: npt.NDArray[np.str_], cuts: Sequence[float]) -> list[str]:
    """Return the names that occur: bands in ascending order, values in alphabetical order, ``unknown`` last."""
    occurring = set(names.tolist())
    known = [name for name in _band_names("", cuts) if name in occurring] if cuts else sorted(occurring - {UNKNOWN})
    return [*known, *(occurring & {UNKNOWN})]
