"""One-step gradient attacks."""

from collections.abc import Iterator, Sequence

import numpy as np

from buckler.attacks.ball import project
from buckler.attacks.base import Attack, Batch, Options
from buckler.models.classifier import GradientClassifier, Images, Labels, check_pixels


def fgsm(classifier: GradientClassifier, images: Images, labels: Labels, *, epsilon: float) -> Images:
    """Return images moved by at most ``epsilon`` in the loss-increasing direction.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Goodfellow, Shlens & Szegedy, "Explaining and harnessing adversarial examples", eq. 2.
    """
    return next(fgsm_grid(classifier, images, labels, epsilons=[epsilon]))


def fgsm_grid(
    classifier: GradientClassifier, images: Images, labels: Labels, *, epsilons: Sequence[float]
) -> Iterator[Images]:
    """Yield the result of ``fgsm`` for each of ``epsilons``; one gradient serves them all."""
    check_pixels(images)
    gradient, _ = classifier.loss_gradient(images, labels)
    direction = np.sign(gradient)
    for epsilon in epsilons:
        yield project(images + np.asarray(epsilon * direction, np.float32), images, epsilon)


def _fgsm(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    return fgsm_grid(classifier, batch.images, batch.labels, epsilons=epsilons)


ENTRIES: dict[str, Attack] = {"fgsm": Attack(_fgsm)}
