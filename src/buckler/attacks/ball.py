"""What every L-infinity attack shares: staying in the ball, staying in 0..1, staying a picture."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from buckler.models.classifier import Images


def project(adversarial: Images, images: Images, epsilon: float) -> Images:
    """Return ``adversarial`` moved back to within ``epsilon`` of ``images`` and into 0..1."""
    bounded = np.clip(adversarial, images - epsilon, images + epsilon)
    return np.clip(bounded, 0, 1).astype(np.float32, copy=False)


def as_8_bit(adversarial: Images, images: Images, epsilon: float) -> Images:
    """Return ``adversarial`` as pixels that a PNG can hold, still within ``epsilon`` of ``images``.

    ``images`` must be 8-bit pictures themselves, as the decoder gives them; then nothing leaves the ball.
    """
    # The hair keeps 2.9999998 levels, which is 3 in float32, from becoming 2.
    levels = np.floor(epsilon * 255 + 1e-4)
    origin = np.rint(images * 255)
    rounded = np.clip(np.rint(adversarial * 255), origin - levels, origin + levels)
    return np.asarray(np.clip(rounded, 0, 255) / 255, np.float32)


def generators(seed: int, ids: Sequence[int]) -> list[np.random.Generator]:
    """Return one generator a picture, so that its draw does not depend on which others are in the batch."""
    return [np.random.default_rng([seed, number]) for number in ids]


def uniform(images: Images, epsilon: float, seed: int, ids: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return a perturbation drawn uniformly from the ball, one generator a picture; shape of ``images``."""
    shape = images.shape[1:]
    draws = [g.uniform(-epsilon, epsilon, shape) for g in generators(seed, ids)]
    return np.asarray(draws, np.float32).reshape(images.shape)
