"""What clients send: a JPEG, a PNG or a DICOM file, told apart by its content, never by a name."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.modality.picture import dicom, images


@dataclass(frozen=True, slots=True)
class Upload:
    """A decoded picture: ``pixels`` (size, size, 3) float32 in 0..1, and what it was before.

    Attributes:
        pixels: As `images.load_pixels` resizes it.
        width, height: Its own, upright; None where pixels were sent.
        size_bytes: Of the file; None where pixels were sent.
    """

    pixels: NDArray[np.float32]
    width: int | None = None
    height: int | None = None
    size_bytes: int | None = None


def load(source: Path | bytes, *, size: int) -> Upload:
    """Return a picture, resized, and what it was before.

    Raises:
        UnusableImageError: As ``load_pixels``.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    image = load_image(content)
    return Upload(images.as_pixels(image, size=size), image.width, image.height, len(content))


def load_pixels(source: Path | bytes, *, size: int) -> NDArray[np.float32]:
    """Return a picture as ``(size, size, 3)`` float32 in 0..1, resized as `images.load_pixels` does.

    Raises:
        UnusableImageError: It is none of the three, damaged, or over the pixel budget; ``code`` says which.
    """
    return load(source, size=size).pixels


def load_image(source: Path | bytes) -> Image.Image:
    """Return a picture upright, as 8-bit RGB.

    Raises:
        UnusableImageError: As ``load_pixels``.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    if dicom.is_dicom(content):
        return dicom.load_image(content).convert("RGB")
    return images.load_image(content)
