"""Faults of pictures that restoration is measured on, each in five severities: noise, blur, JPEG, colour cast.

The severities are those of poor cameras and light, not of attacks.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy import ndimage

from buckler.modality.base import Images, check_pixels
from buckler.modality.picture.benign_changes import recompressed

SEVERITIES: Final = range(1, 6)

NOISE_255: Final = (5, 10, 15, 25, 40)  # standard deviation in 1/255
BLUR: Final = (0.3, 0.6, 0.9, 1.3, 1.8)  # standard deviation of the Gaussian in per cent of the picture's side
JPEG: Final = (70, 50, 30, 20, 10)  # quality
CAST: Final = (0.05, 0.10, 0.15, 0.20, 0.30)  # by how much red is multiplied up and blue down


def noise(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Return ``images`` with Gaussian noise, independent in each channel of each pixel."""
    added = generator.standard_normal(images.shape, np.float32) * np.float32(NOISE_255[severity - 1] / 255)
    return np.asarray(np.clip(images + added, 0, 1), np.float32)


def blur(images: Images, severity: int, _: np.random.Generator) -> Images:
    """Return ``images`` out of focus."""
    sigma = BLUR[severity - 1] / 100 * min(images.shape[1:3])
    return np.asarray(np.clip(ndimage.gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest"), 0, 1), np.float32)


def jpeg(images: Images, severity: int, _: np.random.Generator) -> Images:
    """Return ``images`` after strong compression."""
    return recompressed(images, quality=JPEG[severity - 1])


def cast(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Return ``images`` in light that is too red or too blue, drawn for each."""
    amount = CAST[severity - 1] * generator.choice([-1, 1], size=len(images))
    factors = np.stack([1 + amount, np.ones_like(amount), 1 - amount], axis=-1)
    return np.clip(images * factors[:, None, None].astype(np.float32), 0, 1)


DEGRADATIONS: Final[dict[str, Callable[[Images, int, np.random.Generator], Images]]] = {
    "noise": noise,
    "blur": blur,
    "JPEG": jpeg,
    "colour cast": cast,
}


def degraded(images: Images, kind: str, severity: int, *, seed: int) -> Images:
    """Return ``images`` (n, h, w, 3) in 0..1 with the fault ``kind`` of ``DEGRADATIONS``.

    Args:
        images: Clean pictures.
        kind: A key of ``DEGRADATIONS``.
        severity: 1 to 5.
        seed: Of the random draws.

    Raises:
        InputRangeError: Some value lies outside 0..1.
        ValueError: The kind or the severity is unknown.
    """
    check_pixels(images)
    if kind not in DEGRADATIONS or severity not in SEVERITIES:
        raise ValueError(f"expected one of {', '.join(DEGRADATIONS)} in severity 1 to 5, got {kind} in {severity}")
    return DEGRADATIONS[kind](images, severity, np.random.default_rng((seed, severity)))
