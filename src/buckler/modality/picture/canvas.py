"""The canvas of generated pictures: coordinates, smooth noise, pigments, and the way down to a picture's size."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUPERSAMPLING: Final = 2  # of fields, which are smooth; lines are drawn at twice that resolution

Field = NDArray[np.float32]
"""``(side, side)`` float32, one value per canvas pixel."""
Picture = NDArray[np.float32]
"""``(side, side, 3)`` float32 in 0..1."""

# Absorption per unit of pigment depth, red green blue: melanin turns light brown, then black.
MELANIN = np.array([0.75, 1.35, 1.65])
BLOOD = np.array([0.22, 1.15, 0.95])


def shrunk(canvas: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return a canvas averaged down to ``size`` pixels a side."""
    blocks = canvas.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, *canvas.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3)))


def plane(side: int) -> tuple[Field, Field]:
    """Return the coordinates of the pixel centres, x to the right and y down, -1..1."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(single(axis), single(axis))
    return x, y


def noise(side: int, cells: int, rng: np.random.Generator) -> Field:
    """Return smooth noise of about unit variance with ``cells`` bumps along each side, the same at every ``side``."""
    grid = Image.fromarray(rng.normal(0, 1, (cells + 2, cells + 2)).astype(np.float32))
    field = grid.resize((side, side), Image.Resampling.BICUBIC, box=(0.5, 0.5, cells + 1.5, cells + 1.5))
    return np.asarray(field, dtype=np.float32) * np.float32(1.35)  # interpolation reduces the variance


def single(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return ``values`` as float32; one float64 factor would make all later steps float64 and twice as slow."""
    return values.astype(np.float32)


def field(mask: Image.Image) -> Field:
    """Return a mask drawn at twice the canvas size, 0..255, as a field 0..1."""
    return np.asarray(mask.reduce(2), dtype=np.float32) / np.float32(255)


def smoothstep(value: Field) -> Field:
    """Return ``value`` as a smooth step: 0 below 0, 1 above 1."""
    t = np.clip(value, 0, 1)
    return t * t * (3 - 2 * t)


def absorb(picture: Picture, depth: Field, absorption: NDArray[np.float64]) -> Picture:
    """Return ``picture`` seen through ``depth`` of a pigment (Beer-Lambert law)."""
    passed: Picture = np.exp(-depth[..., None] * single(absorption))
    return picture * passed


def blend(picture: Picture, share: Field, colour: NDArray[np.float64]) -> Picture:
    """Return ``picture`` with the ``share`` of ``colour``, 0..1, at each pixel."""
    share = share[..., None]
    return picture + share * (single(colour) - picture)
