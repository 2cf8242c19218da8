"""Example pictures of the robustness report, before and after the attack: ``reports/illustrations.npz``.

The robustness report names them (`measurements.Illustration`); their pixels are here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from buckler.errors import DataError
from buckler.measurements.results import Illustration
from buckler.modality.base import Images

FILE = "illustrations.npz"


@dataclass(frozen=True, slots=True)
class Illustrated:
    """An illustration as drawn pictures: ``clean`` and ``attacked``, ``(n, height, width, 3)`` float32 in 0..1."""

    about: Illustration
    clean: Images
    attacked: Images


def write(reports: Path, shown: Sequence[Illustrated]) -> None:
    """Write the pixels of ``shown`` to the directory ``reports``."""
    arrays = {f"{n}.{side}": getattr(each, side) for n, each in enumerate(shown) for side in ("clean", "attacked")}
    np.savez_compressed(reports / FILE, **arrays)


def read(reports: Path, illustrations: Sequence[Illustration]) -> tuple[Illustrated, ...]:
    """Return the ``illustrations`` of a robustness report with their pixels.

    Raises:
        DataError: The file is missing, or belongs to another report.
    """
    path = reports / FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            shown = tuple(
                Illustrated(about, arrays[f"{n}.clean"], arrays[f"{n}.attacked"])
                for n, about in enumerate(illustrations)
            )
    except FileNotFoundError as error:
        raise DataError(f"no {path}; run `dvc repro` first") from error
    except KeyError as error:
        raise DataError(f"{path} belongs to another robustness report; run `dvc repro`") from error
    if any(len(each.clean) != len(each.about.pictures) for each in shown):
        raise DataError(f"{path} belongs to another robustness report; run `dvc repro`")
    return shown
