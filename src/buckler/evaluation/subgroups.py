"""Worst-case rates of all pictures and of subgroups: one sex, one age band, one site, one class."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from buckler.errors import DataError

LABEL = "label"
UNKNOWN = "unknown"
_MISSING = ("", "nan", UNKNOWN)

Bands = Mapping[str, Sequence[float]]  # column -> cut points of its numbers; without any, each value is a group
Members = npt.NDArray[np.bool_]  # (n,), which pictures belong


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
            " table of the pictures and run `dvc repro`, or remove them from attack.subgroups"
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
