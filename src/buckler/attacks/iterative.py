"""Attacks of many small gradient steps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from buckler.attacks.ball import project, uniform
from buckler.attacks.base import Attack, Batch, Options
from buckler.models.classifier import GradientClassifier, Images, Labels, Logits, check_pixels

# A picture is left alone once it is wrong by this share of its largest logit: a hair would not survive
# rounding to 8 bits, nor scoring in another precision than the one it was crafted in.
EXIT_MARGIN = 0.05


def pgd(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    restarts: int = 1,
    early_exit: bool = True,
    seed: int = 0,
    ids: Sequence[int] | None = None,
) -> Images:
    """Return images after projected gradient ascent on the cross-entropy from a random start in the ball.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.
        steps: Gradient steps a restart.
        step_size: In the unit of ``images``; ``2.5 * epsilon / steps`` when not given.
        restarts: Random starts; a picture once flipped keeps its flip.
        early_exit: Stop on a picture that is wrong by a clear margin. Robust accuracy is the same, most
            gradients are saved; the perturbation is then not the strongest one in the ball.
        seed: Of the random starts.
        ids: A number a picture that names it in the draw; its position when not given.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", arXiv 1706.06083.
    """
    check_pixels(images)
    names = np.arange(len(images)) if ids is None else np.asarray(ids)
    step = 2.5 * epsilon / steps if step_size is None else step_size
    result = images.copy()
    active = np.arange(len(images))
    for restart in range(restarts):
        start = uniform(images[active], epsilon, seed + restart, names[active].tolist())
        result[active] = project(images[active] + start, images[active], epsilon)
        for _ in range(steps):
            gradient, logits = classifier.loss_gradient(result[active], labels[active])
            if early_exit:
                going = margins(logits, labels[active]) > -EXIT_MARGIN * np.abs(logits).max(axis=-1)
                active, gradient = active[going], gradient[going]
            if not len(active):
                return result
            moved = result[active] + np.asarray(step * np.sign(gradient), np.float32)
            result[active] = project(moved, images[active], epsilon)
        if restart + 1 < restarts:
            active = active[margins(classifier.logits(result[active]), labels[active]) > 0]
    return result


def margins(logits: Logits, labels: Labels) -> Logits:
    """Return the true class's logit less the largest other, ``(batch,)``; negative means wrong."""
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return np.asarray(logits[rows, labels] - others.max(axis=-1), np.float32)


def _pgd(classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options) -> Iterator[Images]:
    tuning: Mapping[str, Any] = {
        "steps": options.steps,
        "restarts": options.restarts,
        "early_exit": options.early_exit,
        "seed": options.seed,
        "ids": batch.ids,
    }
    return (pgd(classifier, batch.images, batch.labels, epsilon=epsilon, **tuning) for epsilon in epsilons)


ENTRIES: dict[str, Attack] = {"pgd": Attack(_pgd)}
