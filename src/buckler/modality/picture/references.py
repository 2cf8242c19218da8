"""Draws pictures whose answers the runtimes of all machines must agree on."""

import numpy as np
import numpy.typing as npt

from buckler.modality.base import Shape


def draw(shape: Shape, *, count: int, seed: int) -> npt.NDArray[np.uint8]:
    """Return ``(count, *shape)`` pictures of a dark spot on a lighter, noisy ground, in random colours."""
    generator = np.random.default_rng(seed)
    size, _, channels = shape
    down, across = np.mgrid[0:size, 0:size] / size
    pictures = []
    for _ in range(count):
        y, x, radius = generator.uniform(0.3, 0.7), generator.uniform(0.3, 0.7), generator.uniform(0.1, 0.35)
        spot = np.exp(-((down - y) ** 2 + (across - x) ** 2) / radius**2)[..., None]
        ground, dark = generator.uniform(140, 255, channels), generator.uniform(0, 140, channels)
        noise = generator.normal(0, generator.uniform(1, 20), shape)
        pictures.append((1 - spot) * ground + spot * dark + noise)
    return np.asarray(np.clip(pictures, 0, 255), np.uint8)
