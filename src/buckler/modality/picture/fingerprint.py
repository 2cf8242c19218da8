"""Fingerprints of pictures, for the query monitor: block means that nearly equal pictures share."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BLOCKS: Final = 16


def block_means(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``(16, 16, 3)`` block means, centred per channel so that the colour of the light has no effect.

    Args:
        pixels: ``(height, width, 3)``, at least 16 pixels a side.
    """
    means: NDArray[Any] = pixels
    for axis in (0, 1):
        starts = np.arange(BLOCKS) * pixels.shape[axis] // BLOCKS
        sizes = np.diff(np.append(starts, pixels.shape[axis])).astype(np.float32)
        shape = [1, 1, 1]
        shape[axis] = BLOCKS
        means = np.add.reduceat(means, starts, axis=axis) / sizes.reshape(shape)
    result: NDArray[np.float32] = means - means.mean(axis=(0, 1))
    return result


def orientations(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the eight rotated and mirrored forms as rows, ``(8, 768)``, the original first."""
    mirrored = means[:, ::-1]
    turned = [np.rot90(each, turns) for each in (means, mirrored) for turns in range(4)]
    return np.stack([each.reshape(-1) for each in turned])
