"""What clients send: a JPEG, a PNG or a DICOM file, told apart by its content, never by a name."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.data import dicom, images


def load_pixels(source: Path | bytes, *, size: int) -> NDArray[np.float32]:
    """Return a picture as ``(size, size, 3)`` float32 in 0..1, resized as `images.load_pixels` does.

    Raises:
        UnusableImageError: It is none of the three, damaged, or over the pixel budget; ``code`` says which.
    """
    return images.as_pixels(load_image(source), size=size)


def load_image(source: Path | bytes) -> Image.Image:
    """Return a picture upright, as 8-bit RGB.

    Raises:
        UnusableImageError: As ``load_pixels``.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    if dicom.is_dicom(content):
        return dicom.load_image(content).convert("RGB")
    return images.load_image(content)
