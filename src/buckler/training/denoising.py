"""Trains the denoiser: clean pictures of the kind that it will restore, and noise of random strength."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from buckler.errors import DataError
from buckler.modality.base import Images, check_pixels
from buckler.models import denoiser
from buckler.models.backend import keras, tf
from buckler.models.denoiser import Denoiser

Progress = Callable[[int, float], object]
WEAKEST = 4 / 255  # weaker noise counts as this
TAIL = 0.75  # share of the steps over which the learning rate falls
REDUCED = 0.25  # share of the crops at half resolution: a classifier may see smaller pictures
LARGEST_GRADIENT = 1.0  # norm; single crops have far larger ones


@dataclass(frozen=True, slots=True)
class DenoiserSchedule:
    """Length and draws of a training.

    Attributes:
        steps: Gradient steps.
        batch_size: Crops a step.
        side: Pixels a side of a crop, a multiple of 8.
        largest_255: Largest standard deviation of the noise in 1/255; each crop's is uniform between 0 and this.
        learning_rate: Of Adam; it falls to zero over the last ``TAIL`` of the steps.
        seed: Of weights, crops and noise.
    """

    steps: int = 2750
    batch_size: int = 6
    side: int = 80
    largest_255: float = 40.0
    learning_rate: float = 1.5e-3
    seed: int = 7


def train(images: Images, schedule: DenoiserSchedule, progress: Progress | None = None) -> Denoiser:
    """Return a denoiser trained on ``images`` (n, h, w, 3) in 0..1.

    Args:
        images: Clean pictures, at least twice as large as a crop.
        schedule: Length and draws.
        progress: Receives the number of finished steps and the last loss.

    Raises:
        DataError: There are no pictures, or they are too small.
    """
    check_pixels(images)
    least = 2 * schedule.side
    if not len(images) or min(images.shape[1:3]) < least:
        raise DataError(f"expected pictures of at least {least} pixels a side, got shape {images.shape}")
    network, generator = denoiser.build(schedule.seed), np.random.default_rng(schedule.seed)
    optimizer = keras.optimizers.Adam(schedule.learning_rate, global_clipnorm=LARGEST_GRADIENT)
    optimizer.build(network.trainable_variables)

    @tf.function  # type: ignore[untyped-decorator]
    def descend(noisy: Any, noise: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(weights * (network(noisy, training=True) - noise) ** 2)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    for step in range(1, schedule.steps + 1):
        left = (schedule.steps - step) / schedule.steps
        optimizer.learning_rate.assign(schedule.learning_rate * min(1.0, left / TAIL))
        crops = _crops(images, schedule, generator)
        spread = generator.uniform(0, schedule.largest_255 / 255, size=(len(crops), 1, 1, 1)).astype(np.float32)
        # Clipped as a camera clips it.
        noisy = np.clip(crops + spread * generator.standard_normal(crops.shape, np.float32), 0, 1)
        # Every strength counts: without weights, the strongest noise would have most of the error.
        loss = descend(noisy, noisy - crops, 1 / (spread + np.float32(WEAKEST)))
        if progress:
            progress(step, float(loss))
    return Denoiser(network)


def _crops(images: Images, schedule: DenoiserSchedule, generator: np.random.Generator) -> Images:
    side, crops = schedule.side, []
    for place, reduced in zip(
        generator.integers(len(images), size=schedule.batch_size),
        generator.random(schedule.batch_size) < REDUCED,
        strict=True,
    ):
        taken = side * (2 if reduced else 1)
        top, left = (int(generator.integers(length - taken + 1)) for length in images.shape[1:3])
        crop = images[place, top : top + taken, left : left + taken]
        if reduced:
            crop = crop.reshape(side, 2, side, 2, -1).mean(axis=(1, 3))
        crop = np.rot90(crop, int(generator.integers(4)))
        crops.append(crop[:, ::-1] if generator.integers(2) else crop)
    return np.stack(crops)
