"""Refuses weights that are not numbers: one of them makes answers that look like numbers and mean nothing."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from buckler.errors import ModelError


def check_finite(arrays: Iterable[tuple[str, npt.NDArray[np.generic]]], file: object) -> None:
    """Check that ``arrays``, named, which were read from ``file``, contain finite numbers only.

    Raises:
        ModelError: One contains NaN or an infinite number.
    """
    for name, values in arrays:
        if np.issubdtype(values.dtype, np.floating) and not (found := np.isfinite(values)).all():
            wrong = int(values.size - np.count_nonzero(found))
            raise ModelError(
                f"{file}: expected finite numbers, got {wrong} of {values.size} that are NaN or infinite in {name}; use"
                " an intact copy, or train again"
            )
