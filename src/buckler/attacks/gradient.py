"""One-step gradient attacks."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import BALLS, generators, project
from buckler.attacks.base import Attack, Batch, Norm, Options, entry
from buckler.modality.base import Images, Labels, check_pixels
from buckler.models.classifier import GradientClassifier
from buckler.models.forward import Logits


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
    yield from steps_along(np.sign(gradient), images, epsilons)


def fgsm_targeted(
    classifier: GradientClassifier, images: Images, labels: Labels, *, target: int | Labels, epsilon: float
) -> Images:
    """Return images moved by at most ``epsilon`` towards the class ``target``.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``; a picture whose class is the target's stays as it is.
        target: The class that the answer shall be, one for all or one a picture.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.
        ValueError: The model has no class ``target``.

    Source: Kurakin, Goodfellow & Bengio, "Adversarial machine learning at scale", arXiv 1611.01236, sec. 3.
    """
    check_pixels(images)
    check_target(target, classifier.logits(images[:1]).shape[1])
    targets = np.broadcast_to(np.asarray(target, np.int64), labels.shape)
    return next(_targeted_grid(classifier, images, labels, targets, [epsilon]))


def fgsm_least_likely(classifier: GradientClassifier, images: Images, labels: Labels, *, epsilon: float) -> Images:
    """Return images moved by at most ``epsilon`` towards the class that the model finds least likely.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``; never the target, not even where the model is wrong.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Kurakin, Goodfellow & Bengio, "Adversarial machine learning at scale", arXiv 1611.01236, sec. 3.
    """
    return next(_least_likely_grid(classifier, images, labels, [epsilon]))


def r_fgsm(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    epsilon: float,
    alpha: float | None = None,
    seed: int = 0,
    ids: Sequence[int] | None = None,
) -> Images:
    """Return images after a random step to a corner of a smaller ball, then FGSM with what is left of ``epsilon``.

    The random step leaves the place where a model trained on one-step attacks bends its loss.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.
        alpha: Of the random step, at most ``epsilon``; half of it when not given.
        seed: Of the random step.
        ids: A number a picture that names it in the draw; its position when not given.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.
        ValueError: ``alpha`` lies outside 0..epsilon.

    Source: Tramèr et al., "Ensemble adversarial training: attacks and defenses", arXiv 1705.07204, eq. 7.
    """
    check_pixels(images)
    first = epsilon / 2 if alpha is None else alpha
    if not 0 <= first <= epsilon:
        raise ValueError(f"expected alpha between 0 and epsilon {epsilon:.4f}, got {first:.4f}")
    names = range(len(images)) if ids is None else ids
    draws = [np.sign(g.standard_normal(images.shape[1:])) for g in generators(seed, names)]
    signs = np.asarray(draws, np.float32).reshape(images.shape)
    start = project(images + np.asarray(first * signs, np.float32), images, first)
    gradient, _ = classifier.loss_gradient(start, labels)
    moved = start + np.asarray((epsilon - first) * np.sign(gradient), np.float32)
    return project(moved, images, epsilon)


def fgv(classifier: GradientClassifier, images: Images, labels: Labels, *, epsilon: float) -> Images:
    """Return images moved along the raw gradient, scaled so that its largest component is ``epsilon``.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Rozsa, Rudd & Boult, "Adversarial diversity and hard positive generation", arXiv 1605.01775, sec. 3.
    """
    return next(_fgv_grid(classifier, images, labels, [epsilon]))


def least_likely(logits: Logits, labels: Labels) -> Labels:
    """Return the class with the smallest logit in each row, the true one left out, ``(batch,)``."""
    others = logits.copy()
    others[np.arange(len(labels)), labels] = np.inf
    return np.asarray(others.argmin(axis=1), np.int64)


def check_target(target: int | Labels, classes: int) -> None:
    """Raise ValueError unless every ``target`` is one of a model's ``classes``."""
    targets = np.asarray(target)
    if targets.size and not (targets.min() >= 0 and targets.max() < classes):
        raise ValueError(f"expected a target class of 0 to {classes - 1}, got {sorted(set(targets.ravel().tolist()))}")


def steps_along(
    direction: npt.NDArray[np.floating], images: Images, epsilons: Sequence[float], norm: Norm = "linf"
) -> Iterator[Images]:
    """Yield for each of ``epsilons`` the images moved by ``epsilon * direction``, within the ball and 0..1."""
    for epsilon in epsilons:
        yield BALLS[norm].project(images + np.asarray(epsilon * direction, np.float32), images, epsilon)


def _targeted_grid(
    classifier: GradientClassifier, images: Images, labels: Labels, targets: Labels, epsilons: Sequence[float]
) -> Iterator[Images]:
    check_pixels(images)
    gradient, _ = classifier.loss_gradient(images, targets)
    there = (targets == labels)[:, None, None, None]
    yield from steps_along(np.where(there, 0, -np.sign(gradient)), images, epsilons)


def _least_likely_grid(
    classifier: GradientClassifier, images: Images, labels: Labels, epsilons: Sequence[float]
) -> Iterator[Images]:
    check_pixels(images)
    targets = least_likely(classifier.logits(images), labels)
    yield from _targeted_grid(classifier, images, labels, targets, epsilons)


def _fgv_grid(
    classifier: GradientClassifier, images: Images, labels: Labels, epsilons: Sequence[float]
) -> Iterator[Images]:
    check_pixels(images)
    gradient, _ = classifier.loss_gradient(images, labels)
    largest = np.abs(gradient).max(axis=(1, 2, 3), keepdims=True)
    direction = np.divide(gradient, largest, out=np.zeros_like(gradient), where=largest > 0)
    yield from steps_along(direction, images, epsilons)


def _fgsm(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    return fgsm_grid(classifier, batch.images, batch.labels, epsilons=epsilons)


def _fgsm_targeted(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    if options.target is None:
        raise ValueError("fgsm_targeted needs a target class, got None")
    check_target(options.target, classifier.logits(batch.images[:1]).shape[1])
    targets = np.full_like(batch.labels, options.target)
    return _targeted_grid(classifier, batch.images, batch.labels, targets, epsilons)


def _fgsm_least_likely(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    return _least_likely_grid(classifier, batch.images, batch.labels, epsilons)


def _r_fgsm(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    images, labels = batch.images, batch.labels
    return (r_fgsm(classifier, images, labels, epsilon=e, seed=options.seed, ids=batch.ids) for e in epsilons)


def _fgv(classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options) -> Iterator[Images]:
    return _fgv_grid(classifier, batch.images, batch.labels, epsilons)


ENTRIES: dict[str, Attack] = {
    "fgsm": Attack(_fgsm),
    "fgsm_targeted": Attack(_fgsm_targeted, targeted=True),
    "fgsm_least_likely": Attack(_fgsm_least_likely),
    "r_fgsm": entry(r_fgsm, _r_fgsm, tuning={"alpha": "epsilon / 2"}),
    "fgv": Attack(_fgv),
}
