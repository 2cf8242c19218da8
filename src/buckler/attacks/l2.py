"""Gradient attacks in the Euclidean ball: few large changes are as dear as many small ones."""

from collections.abc import Iterator, Sequence

from buckler.attacks.ball import unit_l2
from buckler.attacks.base import Attack, Batch, Options, entry
from buckler.attacks.gradient import steps_along
from buckler.attacks.iterative import ROAMING, Walk, climb
from buckler.modality.base import Images, Labels, check_pixels
from buckler.models.classifier import GradientClassifier


def fgm_l2(classifier: GradientClassifier, images: Images, labels: Labels, *, epsilon: float) -> Images:
    """Return images moved by at most the length ``epsilon`` along the gradient of the cross-entropy.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        epsilon: Euclidean length of the whole change in the unit of ``images``; zero returns a copy.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Miyato, Dai & Goodfellow, "Adversarial training methods for semi-supervised text classification",
    arXiv 1605.07725, eq. 4.
    """
    return next(_fgm_l2_grid(classifier, images, labels, [epsilon]))


def pgd_l2(
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
    """Return images after projected gradient ascent in the Euclidean ball from a random start in it.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        epsilon: Euclidean length of the whole change in the unit of ``images``; zero returns a copy.
        steps: Gradient steps a restart.
        step_size: Length of a step in the unit of ``images``; ``2.5 * epsilon / steps`` when not given.
        restarts: Random starts; a picture once flipped keeps its flip.
        early_exit: Stop on a picture that is wrong by a clear margin.
        seed: Of the random starts.
        ids: A number a picture that names it in the draw; its position when not given.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", arXiv 1706.06083.
    """
    step = 2.5 * epsilon / steps if step_size is None else step_size
    walk = Walk(steps, step, restarts, early_exit, random_start=True, norm="l2", seed=seed)
    return climb(classifier, images, labels, walk, epsilon=epsilon, ids=ids)


def _fgm_l2_grid(
    classifier: GradientClassifier, images: Images, labels: Labels, epsilons: Sequence[float]
) -> Iterator[Images]:
    check_pixels(images)
    gradient, _ = classifier.loss_gradient(images, labels)
    yield from steps_along(unit_l2(gradient), images, epsilons, "l2")


def _fgm_l2(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    return _fgm_l2_grid(classifier, batch.images, batch.labels, epsilons)


def _pgd_l2(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    return (
        pgd_l2(
            classifier,
            batch.images,
            batch.labels,
            epsilon=epsilon,
            steps=options.steps,
            restarts=options.restarts,
            early_exit=options.early_exit,
            seed=options.seed,
            ids=batch.ids,
        )
        for epsilon in epsilons
    )


ENTRIES: dict[str, Attack] = {
    "fgm_l2": Attack(_fgm_l2, "l2"),
    "pgd_l2": entry(pgd_l2, _pgd_l2, tuning=ROAMING, norm="l2"),
}
