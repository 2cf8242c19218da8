"""Draws a relevance map over a picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.modality.picture import images

LONGEST_SIDE = 512
# From transparent over violet and orange to yellow: brightness grows with relevance, colour-blind readers can
# distinguish the colours, and skin has none of them. Columns: relevance, red, green, blue, opacity.
RAMP = np.array(
    [
        (0.00, 60, 20, 110, 0.00),
        (0.25, 60, 20, 110, 0.15),
        (0.50, 150, 40, 130, 0.40),
        (0.75, 240, 120, 40, 0.55),
        (1.00, 255, 235, 60, 0.65),
    ]
)


def overlay(image: Image.Image, relevance: NDArray[np.float32]) -> Image.Image:
    """Return ``image``, at most ``LONGEST_SIDE`` pixels a side, coloured by ``relevance``.

    Args:
        image: RGB; a larger one is shrunk.
        relevance: ``(h, w)`` in 0..1, stretched over the whole picture.
    """
    picture = images.shrunk(image, LONGEST_SIDE)
    share = stretched(relevance, picture.size)
    red, green, blue, opacity = (np.interp(share, RAMP[:, 0], column) for column in RAMP.T[1:])
    colours = np.stack([red, green, blue], axis=-1)
    mixed = np.asarray(picture) * (1 - opacity[..., None]) + colours * opacity[..., None]
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def stretched(relevance: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a relevance map ``(h, w)`` stretched over a picture of ``size`` (width, height), clipped to 0..1."""
    resized = Image.fromarray(relevance).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(np.clip(np.asarray(resized), 0, 1), np.float32)
