"""Decodes uploads of clients, recognised by their content, never by their name."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.modality.base import Upload
from buckler.modality.picture import images
from buckler.modality.picture.decode_budget import MAX_PIXELS


def load(
    source: Path | bytes,
    *,
    size: int,
    shown: int | None = None,
    most_pixels: int = MAX_PIXELS,
    frame: int | None = None,
) -> Upload:
    """Return the decoded and resized picture with the facts of its file; errors as for ``load_pixels``.

    Args:
        source: The file.
        size: Side of the square to resize to.
        shown: Keeps the picture for people, too, at most this many pixels a side; None keeps none.
        most_pixels: Most pixels that are decoded; a larger picture is refused by its header.
        frame: Number of the frame of a DICOM file, from 1; a file of several needs one.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    found = images.load(content, size=size, most_pixels=most_pixels, frame=frame)
    kept = None if shown is None else _without_metadata(images.shrunk(found.image, shown))
    return Upload(images.as_pixels(found.image, size=size), found.width, found.height, len(content), kept)


def load_pixels(source: Path | bytes, *, size: int, frame: int | None = None) -> NDArray[np.float32]:
    """Return a picture as ``(size, size, 3)`` float32 in 0..1, resized as `images.load_pixels` does.

    ``frame`` is as for ``load``.

    Raises:
        UnusableImageError: The file is in another format, damaged or too large; ``code`` states the fault.
    """
    return load(source, size=size, frame=frame).values


def _without_metadata(image: Image.Image) -> Image.Image:
    """Return the pixels of ``image`` alone: a comment or a colour profile may name a person."""
    plain = Image.new(image.mode, image.size)
    plain.paste(image)
    return plain
