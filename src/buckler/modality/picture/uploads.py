"""Decodes uploads of clients: JPEG, PNG or DICOM, recognised by their content, never by their name."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.modality.picture import dicom, images


@dataclass(frozen=True, slots=True)
class Upload:
    """A decoded upload.

    Attributes:
        pixels: ``(size, size, 3)`` float32 in 0..1, resized as by `images.load_pixels`.
        width, height: Sides of the upright picture before resizing; None if the client sent pixels.
        size_bytes: Size of the file; None if the client sent pixels.
    """

    pixels: NDArray[np.float32]
    width: int | None = None
    height: int | None = None
    size_bytes: int | None = None


def load(source: Path | bytes, *, size: int) -> Upload:
    """Return the decoded and resized picture with the facts of its file; errors as for ``load_pixels``."""
    content = source if isinstance(source, bytes) else source.read_bytes()
    image = load_image(content)
    return Upload(images.as_pixels(image, size=size), image.width, image.height, len(content))


def load_pixels(source: Path | bytes, *, size: int) -> NDArray[np.float32]:
    """Return a picture as ``(size, size, 3)`` float32 in 0..1, resized as `images.load_pixels` does.

    Raises:
        UnusableImageError: The file is in another format, damaged or too large; ``code`` states the fault.
    """
    return load(source, size=size).pixels


def load_image(source: Path | bytes) -> Image.Image:
    """Return a picture upright, as 8-bit RGB; errors as for ``load_pixels``."""
    content = source if isinstance(source, bytes) else source.read_bytes()
    if dicom.is_dicom(content):
        return dicom.load_image(content).convert("RGB")
    return images.load_image(content)
