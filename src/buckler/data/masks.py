"""Masks of lesions: which pixels of a picture show the lesion, as black and white PNG files."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

MASKS = Path("data/masks")  # <id of the picture>; without files if the source of the pictures has no masks

Mask = npt.NDArray[np.bool_]  # (height, width)


def to_png(mask: Mask) -> bytes:
    """Return ``mask`` as a PNG: white where it holds."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def load(ids: Sequence[str], directory: Path = MASKS) -> list[Mask] | None:
    """Return the masks of the pictures ``ids``; None if ``directory`` lacks one of them."""
    paths = [directory / name for name in ids]
    if not all(path.is_file() for path in paths):
        return None
    found = []
    for path in paths:
        with Image.open(path) as image:
            found.append(np.asarray(image.convert("1")))
    return found
