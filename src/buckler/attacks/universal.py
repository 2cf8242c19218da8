"""Universal perturbations: one change of pixels for every picture."""

from collections.abc import Iterator, Sequence

import numpy as np

from buckler.attacks.ball import project
from buckler.attacks.base import Attack, Batch, Options, entry
from buckler.attacks.iterative import EXIT_MARGIN, margins
from buckler.modality.base import Images, Labels, check_pixels
from buckler.models.classifier import GradientClassifier


def universal_perturbation(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Images:
    """Return the one perturbation ``(height, width, 3)`` that makes most of ``images`` wrong.

    Sign-gradient ascent on the cross-entropy summed over a batch. A picture that is clearly wrong has no say, else
    it would be made ever more wrong at the others' cost.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(n, height, width, 3)`` float32 in 0..1 to learn from.
        labels: True class indices, ``(n,)``.
        epsilon: L-infinity radius in the unit of ``images``.
        steps: Times that every picture is seen.
        step_size: In the unit of ``images``; ``epsilon / 4`` when not given.
        batch_size: Pictures whose losses are summed for a step.
        seed: Of the order of the pictures.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Moosavi-Dezfooli et al., "Universal adversarial perturbations", arXiv 1610.08401, for the idea; Shafahi et
        al., "Universal adversarial training", arXiv 1811.11304, for the ascent.
    """
    check_pixels(images)
    step = epsilon / 4 if step_size is None else step_size
    generator = np.random.default_rng(seed)
    now = best = np.zeros(images.shape[1:], np.float32)
    most = np.inf
    for _ in range(steps):
        order = generator.permutation(len(images))
        for start in range(0, len(images), batch_size):
            rows = order[start : start + batch_size]
            ascent = _ascent(classifier, apply_perturbation(images[rows], now), labels[rows])
            now = np.clip(now + np.float32(step) * np.sign(ascent), -epsilon, epsilon).astype(np.float32)
        # Steps of one length go back and forth near the end, so the best epoch counts and not the last.
        right = margins(classifier.logits(apply_perturbation(images, now)), labels) > 0
        if right.sum() < most:
            best, most = now, right.sum()
        if not right.any():
            break
    return best


def apply_perturbation(images: Images, perturbation: Images) -> Images:
    """Return ``images`` ``(n, height, width, 3)`` with ``perturbation`` ``(height, width, 3)`` added, within 0..1.

    Raises:
        ValueError: The shapes do not fit.
    """
    if images.shape[1:] != perturbation.shape:
        raise ValueError(f"expected a perturbation of shape {images.shape[1:]}, got {perturbation.shape}")
    return np.asarray(np.clip(images + perturbation, 0, 1), np.float32)


def _ascent(classifier: GradientClassifier, images: Images, labels: Labels) -> Images:
    """Return the gradient of the loss summed over the pictures that are not clearly wrong, ``(height, width, 3)``."""
    gradient, logits = classifier.loss_gradient(images, labels)
    going = margins(logits, labels) > -EXIT_MARGIN * np.abs(logits).max(axis=-1)
    return np.asarray(gradient[going].sum(axis=0), np.float32)


def _universal(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    for epsilon in epsilons:
        perturbation = universal_perturbation(
            classifier, batch.images, batch.labels, epsilon=epsilon, steps=options.steps, seed=options.seed
        )
        yield project(apply_perturbation(batch.images, perturbation), batch.images, epsilon)


# The perturbation is learnt from the very batch it is counted on: stronger than what an attacker has who must
# learn it from other pictures, and the one attack whose result depends on a picture's batch mates.
ENTRIES: dict[str, Attack] = {
    "universal": entry(
        universal_perturbation, _universal, tuning={"step_size": "epsilon / 4", "exit_margin": EXIT_MARGIN}
    )
}
