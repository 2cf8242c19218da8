"""Attacks of many small gradient steps: one loop, and what its attacks differ in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import BALLS
from buckler.attacks.base import Attack, Batch, Norm, Options, Tuning, entry
from buckler.attacks.gradient import check_target, least_likely
from buckler.modality.base import Images, Labels, check_pixels
from buckler.models.classifier import GradientClassifier
from buckler.models.forward import Logits

# A picture is left alone once it is wrong by this share of its largest logit: a hair would not survive
# rounding to 8 bits, nor scoring in another precision than the one it was crafted in.
EXIT_MARGIN = 0.05

# How far a step goes where nobody says: Kurakin's reach the edge in a straight line, Madry's from any start.
STRAIGHT: Tuning = {"step_size": "epsilon / steps", "exit_margin": EXIT_MARGIN}
ROAMING: Tuning = {"step_size": "2.5 * epsilon / steps", "exit_margin": EXIT_MARGIN}

Watch = Callable[[npt.NDArray[np.intp], Logits], object]


@dataclass(frozen=True, slots=True)
class Walk:
    """How the loop goes.

    Attributes:
        steps: Gradient steps a start.
        step_size: In the unit of the pixels.
        restarts: Starts; a picture once flipped keeps its flip.
        early_exit: Stop on a picture that is where the attack wants it by a clear margin.
        random_start: Begin anywhere in the ball, not at the picture.
        momentum: Share of the past direction kept in each step, L1-normalised gradients summed; None takes each
            gradient alone.
        norm: Of the ball.
        seed: Of the random starts.
    """

    steps: int
    step_size: float
    restarts: int = 1
    early_exit: bool = True
    random_start: bool = False
    momentum: float | None = None
    norm: Norm = "linf"
    seed: int = 0


def climb(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    walk: Walk,
    *,
    epsilon: float,
    targets: Labels | None = None,
    ids: Sequence[int] | None = None,
    watch: Watch | None = None,
) -> Images:
    """Return images after the steps of ``walk`` up the cross-entropy of ``labels``, or down that of ``targets``.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        walk: How to go.
        epsilon: Radius in the norm of ``walk``, in the unit of ``images``; zero returns a copy.
        targets: Classes that the answers shall be, ``(batch,)``; away from ``labels`` when not given. A picture
            whose class is its target stays as it is.
        ids: A number a picture that names it in the draw; its position when not given.
        watch: Told at each pass the positions of the pictures still under way and their logits.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.
    """
    check_pixels(images)
    names = np.arange(len(images)) if ids is None else np.asarray(ids)
    ball, aim = BALLS[walk.norm], _Aim(labels, targets)
    result = images.copy()
    active = aim.worth_trying()
    for restart in range(walk.restarts):
        if walk.random_start:
            start = ball.draw(images[active], epsilon, walk.seed + restart, names[active].tolist())
            result[active] = ball.project(images[active] + start, images[active], epsilon)
        past = np.zeros_like(images[active])
        for _ in range(walk.steps):
            gradient, logits = aim.gradient(classifier, result[active], active)
            if watch:
                watch(active, logits)
            if walk.early_exit:
                going = aim.missed_by(logits, active) > -EXIT_MARGIN * np.abs(logits).max(axis=-1)
                active, gradient, past = active[going], gradient[going], past[going]
            if not len(active):
                return result
            if walk.momentum is not None:
                gradient = past = walk.momentum * past + unit_l1(gradient)
            moved = result[active] + np.asarray(walk.step_size * ball.steepest(gradient), np.float32)
            result[active] = ball.project(moved, images[active], epsilon)
        if restart + 1 < walk.restarts:
            active = active[aim.missed_by(classifier.logits(result[active]), active) > 0]
    return result


@dataclass(frozen=True, slots=True)
class _Aim:
    """Away from the true class, or towards a target."""

    labels: Labels
    targets: Labels | None

    def worth_trying(self) -> npt.NDArray[np.intp]:
        """Return the positions of the pictures that can get there at all."""
        everyone = np.ones(len(self.labels), bool)
        return np.flatnonzero(everyone if self.targets is None else self.targets != self.labels)

    def gradient(
        self, classifier: GradientClassifier, images: Images, which: npt.NDArray[np.intp]
    ) -> tuple[Images, Logits]:
        """Return the direction to climb for ``images``, those at ``which``, and the logits of the same pass."""
        if self.targets is None:
            return classifier.loss_gradient(images, self.labels[which])
        gradient, logits = classifier.loss_gradient(images, self.targets[which])
        return -gradient, logits

    def missed_by(self, logits: Logits, which: npt.NDArray[np.intp]) -> Logits:
        """Return by how much each answer at ``which`` is not what the attack wants; negative means it is."""
        if self.targets is None:
            return margins(logits, self.labels[which])
        return -margins(logits, self.targets[which])


def unit_l1(gradient: Images) -> Images:
    """Return ``gradient`` scaled to an absolute sum of one in each picture; zero stays zero."""
    total = np.abs(gradient).sum(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    return np.asarray(np.divide(gradient, total, out=np.zeros(gradient.shape), where=total > 0), np.float32)


def margins(logits: Logits, labels: Labels) -> Logits:
    """Return the true class's logit less the largest other, ``(batch,)``; negative means wrong."""
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return np.asarray(logits[rows, labels] - others.max(axis=-1), np.float32)


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
    step = 2.5 * epsilon / steps if step_size is None else step_size
    walk = Walk(steps, step, restarts, early_exit, random_start=True, seed=seed)
    return climb(classifier, images, labels, walk, epsilon=epsilon, ids=ids)


def bim(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    early_exit: bool = True,
) -> Images:
    """Return images after many small FGSM steps from the picture itself.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.
        steps: Gradient steps.
        step_size: In the unit of ``images``; ``epsilon / steps`` when not given.
        early_exit: Stop on a picture that is wrong by a clear margin.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Kurakin, Goodfellow & Bengio, "Adversarial examples in the physical world", arXiv 1607.02533, sec. 2.2.
    """
    walk = Walk(steps, epsilon / steps if step_size is None else step_size, early_exit=early_exit)
    return climb(classifier, images, labels, walk, epsilon=epsilon)


def bim_least_likely(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    early_exit: bool = True,
) -> Images:
    """Return images after many small steps towards the class that the model finds least likely at the start.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``; never the target, not even where the model is wrong.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.
        steps: Gradient steps.
        step_size: In the unit of ``images``; ``epsilon / steps`` when not given.
        early_exit: Stop on a picture that is taken for its target by a clear margin.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Kurakin, Goodfellow & Bengio, "Adversarial examples in the physical world", arXiv 1607.02533, sec. 2.3.
    """
    check_pixels(images)
    targets = least_likely(classifier.logits(images), labels)
    walk = Walk(steps, epsilon / steps if step_size is None else step_size, early_exit=early_exit)
    return climb(classifier, images, labels, walk, epsilon=epsilon, targets=targets)


def bim_targeted(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    target: int,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    early_exit: bool = True,
) -> Images:
    """Return images after many small steps towards the class ``target``.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``; a picture of the class ``target`` stays as it is.
        target: The class that the answer shall be.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.
        steps: Gradient steps.
        step_size: In the unit of ``images``; ``epsilon / steps`` when not given.
        early_exit: Stop on a picture that is taken for ``target`` by a clear margin.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.
        ValueError: The model has no class ``target``.

    Source: Kurakin, Goodfellow & Bengio, "Adversarial examples in the physical world", arXiv 1607.02533, sec. 2.3.
    """
    check_pixels(images)
    check_target(target, classifier.logits(images[:1]).shape[1])
    walk = Walk(steps, epsilon / steps if step_size is None else step_size, early_exit=early_exit)
    targets = np.full(len(labels), target, np.int64)
    return climb(classifier, images, labels, walk, epsilon=epsilon, targets=targets)


def mifgsm(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    momentum: float = 1.0,
    early_exit: bool = True,
) -> Images:
    """Return images after many small sign steps along a running sum of L1-normalised gradients.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.
        steps: Gradient steps.
        step_size: In the unit of ``images``; ``epsilon / steps`` when not given.
        momentum: Share of the sum kept at each step; zero makes it BIM.
        early_exit: Stop on a picture that is wrong by a clear margin.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Dong et al., "Boosting adversarial attacks with momentum", arXiv 1710.06081, algorithm 1.
    """
    step = epsilon / steps if step_size is None else step_size
    walk = Walk(steps, step, early_exit=early_exit, momentum=momentum)
    return climb(classifier, images, labels, walk, epsilon=epsilon)


def _pgd(classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options) -> Iterator[Images]:
    tuning: Mapping[str, Any] = {
        "steps": options.steps,
        "restarts": options.restarts,
        "early_exit": options.early_exit,
        "seed": options.seed,
        "ids": batch.ids,
    }
    return (pgd(classifier, batch.images, batch.labels, epsilon=epsilon, **tuning) for epsilon in epsilons)


def _bim_targeted(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    if options.target is None:
        raise ValueError("bim_targeted needs a target class, got None")
    tuning: Mapping[str, Any] = {
        "target": options.target,
        "steps": options.steps,
        "early_exit": options.early_exit,
    }
    return (bim_targeted(classifier, batch.images, batch.labels, epsilon=epsilon, **tuning) for epsilon in epsilons)


def _from_the_picture(attack: Callable[..., Images]) -> Attack:
    """Return the entry of an ``attack`` without a random start: what it takes of the options is how long to go on."""

    def craft(
        classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
    ) -> Iterator[Images]:
        tuning: Mapping[str, Any] = {"steps": options.steps, "early_exit": options.early_exit}
        return (attack(classifier, batch.images, batch.labels, epsilon=epsilon, **tuning) for epsilon in epsilons)

    return entry(attack, craft, tuning=STRAIGHT)


ENTRIES: dict[str, Attack] = {
    "pgd": entry(pgd, _pgd, tuning=ROAMING),
    "bim": _from_the_picture(bim),
    "bim_least_likely": _from_the_picture(bim_least_likely),
    "bim_targeted": entry(bim_targeted, _bim_targeted, tuning=STRAIGHT, targeted=True),
    "mifgsm": _from_the_picture(mifgsm),
}
