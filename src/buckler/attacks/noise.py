"""The control: what a perturbation of the same size does when nobody aims it."""

from collections.abc import Iterator, Sequence

import numpy as np

from buckler.attacks.ball import generators, project
from buckler.attacks.base import Attack, Batch, Options
from buckler.modality.base import Images, check_pixels
from buckler.models.classifier import GradientClassifier


def sign_noise(images: Images, *, epsilon: float, seed: int = 0, ids: Sequence[int] | None = None) -> Images:
    """Return images with every pixel moved by plus or minus ``epsilon`` at random.

    The corners of the ball, where FGSM also lands, so that only the aim differs.

    Args:
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.
        seed: Of the draw.
        ids: A number a picture that names it in the draw; its position when not given.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.
    """
    check_pixels(images)
    names = range(len(images)) if ids is None else ids
    signs = [g.integers(0, 2, images.shape[1:], dtype=np.int8) * 2 - 1 for g in generators(seed, names)]
    perturbation = np.asarray(signs, np.float32).reshape(images.shape) * np.float32(epsilon)
    return project(images + perturbation, images, epsilon)


def _noise(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    return (sign_noise(batch.images, epsilon=e, seed=options.seed, ids=batch.ids) for e in epsilons)


ENTRIES: dict[str, Attack] = {"noise": Attack(_noise, control=True, knowledge="none")}
