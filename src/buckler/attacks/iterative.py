"""Attacks of many small gradient steps: one loop, `climb`, and the attacks that run it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import BALLS, inner_axes
from buckler.attacks.base import Attack, Batch, Norm, Tuning
from buckler.attacks.gradient import chosen_target, least_likely
from buckler.modality.base import Images, Labels
from buckler.models.forward import Logits
from buckler.models.gradients import GradientClassifier

# Early exit: an input is left alone once its answer is wrong by this share of its largest logit. A smaller margin may
# not survive rounding to 8 bits or the change to the scorer's precision.
EXIT_MARGIN = 0.05

# Called at each pass with the positions of the inputs still under attack and their logits.
OnPass = Callable[[npt.NDArray[np.intp], Logits], object]


@dataclass(frozen=True, slots=True)
class Walk:
    """Settings of `climb`.

    Attributes:
        steps: Gradient steps a start.
        step_size: In the unit of the inputs.
        restarts: Starts; an input once flipped keeps its flip.
        early_exit: Stop on an input whose answer is the wanted one by a clear margin.
        random_start: Start anywhere in the ball instead of at the input.
        momentum: Share of the past direction kept in each step, L1-normalised gradients summed; None uses each
            gradient alone.
        norm: Of the ball.
    """

    steps: int
    step_size: float
    restarts: int = 1
    early_exit: bool = True
    random_start: bool = False
    momentum: float | None = None
    norm: Norm = "linf"


def climb(
    model: GradientClassifier,
    batch: Batch,
    walk: Walk,
    epsilon: float,
    *,
    targets: Labels | None = None,
    on_pass: OnPass | None = None,
) -> Images:
    """Return inputs after the steps of ``walk`` up the cross-entropy of the labels, or down that of ``targets``.

    Args:
        model: Under attack.
        batch: Inputs.
        walk: Settings.
        epsilon: Radius in the norm of ``walk``, in the unit of the inputs.
        targets: Wanted classes, ``(batch,)``; away from the labels when not given. An input whose class is its
            target stays the same.
        on_pass: See `OnPass`.
    """
    images, names = batch.images, batch.numbers
    ball, aim = BALLS[walk.norm], _Aim(batch.labels, targets)
    result = images.copy()
    active = aim.worth_trying()
    for restart in range(walk.restarts):
        if walk.random_start:
            start = ball.draw(images[active], epsilon, batch.seed + restart, names[active].tolist())
            result[active] = ball.project(images[active] + start, images[active], epsilon)
        past = np.zeros_like(images[active])
        for _ in range(walk.steps):
            gradient, logits = aim.gradient(model, result[active], active)
            if on_pass:
                on_pass(active, logits)
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
            active = active[aim.missed_by(model.logits(result[active]), active) > 0]
    return result


@dataclass(frozen=True, slots=True)
class _Aim:
    """The direction of the attack: away from the true class, or towards a target."""

    labels: Labels
    targets: Labels | None

    def worth_trying(self) -> npt.NDArray[np.intp]:
        """Return the positions of the inputs that are not of their target class."""
        everyone = np.ones(len(self.labels), bool)
        return np.flatnonzero(everyone if self.targets is None else self.targets != self.labels)

    def gradient(self, model: GradientClassifier, images: Images, which: npt.NDArray[np.intp]) -> tuple[Images, Logits]:
        """Return the direction for ``images``, the inputs at ``which``, and the logits of the same pass."""
        if self.targets is None:
            return model.loss_gradient(images, self.labels[which])
        gradient, logits = model.loss_gradient(images, self.targets[which])
        return -gradient, logits

    def missed_by(self, logits: Logits, which: npt.NDArray[np.intp]) -> Logits:
        """Return the margin by which each answer at ``which`` is not the wanted one; negative if it is."""
        if self.targets is None:
            return margins(logits, self.labels[which])
        return -margins(logits, self.targets[which])


def unit_l1(gradient: Images) -> Images:
    """Return ``gradient`` scaled to an absolute sum of one in each input; zero stays zero."""
    total = np.abs(gradient).sum(axis=inner_axes(gradient), keepdims=True, dtype=np.float64)
    return np.asarray(np.divide(gradient, total, out=np.zeros(gradient.shape), where=total > 0), np.float32)


def margins(logits: Logits, labels: Labels) -> Logits:
    """Return the true class's logit less the largest other, ``(batch,)``; negative means wrong."""
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return np.asarray(logits[rows, labels] - others.max(axis=-1), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PGD(Attack[GradientClassifier]):
    """Sign-gradient ascent on the cross-entropy from a random start in the ball.

    Attributes:
        steps: Gradient steps a restart.
        step_size: In the unit of the inputs; ``2.5 * epsilon / steps`` when not given.
        restarts: Random starts; an input once flipped keeps its flip.
        early_exit: Stop on an input that is wrong by a clear margin. Robust accuracy stays the same and most
            gradients are saved; the perturbation is then not the strongest one in the ball.
    """

    name = "pgd"
    description = (
        "Projected gradient descent: many small steps from a random start, brought back into the radius each time."
    )
    source = "Madry et al., Towards deep learning models resistant to adversarial attacks, arXiv 1706.06083"
    at_least_fgsm = True
    fixed: ClassVar[Tuning] = {"step_size": "2.5 * epsilon / steps", "exit_margin": EXIT_MARGIN}

    steps: int = 10
    step_size: float | None = None
    restarts: int = 1
    early_exit: bool = True

    def perturb(self, model: GradientClassifier, batch: Batch, epsilon: float) -> Images:
        """Return the inputs at the end of the walk."""
        return climb(model, batch, self.walk(epsilon), epsilon)

    def walk(self, epsilon: float) -> Walk:
        """Return the settings of `climb` at radius ``epsilon``."""
        step = 2.5 * epsilon / self.steps if self.step_size is None else self.step_size
        return Walk(self.steps, step, self.restarts, self.early_exit, random_start=True, norm=self.norm)


@dataclass(frozen=True, slots=True, kw_only=True)
class BIM(Attack[GradientClassifier]):
    """Sign-gradient ascent on the cross-entropy from the input itself.

    Attributes:
        steps: Gradient steps.
        step_size: In the unit of the inputs; ``epsilon / steps`` when not given.
        early_exit: Stop on an input whose answer is the wanted one by a clear margin.
    """

    name = "bim"
    description = "Basic iterative method: many small FGSM steps from the picture itself."
    source = "Kurakin, Goodfellow & Bengio, Adversarial examples in the physical world, arXiv 1607.02533, sec. 2.2"
    at_least_fgsm = True
    fixed: ClassVar[Tuning] = {"step_size": "epsilon / steps", "exit_margin": EXIT_MARGIN}

    steps: int = 10
    step_size: float | None = None
    early_exit: bool = True

    def perturb(self, model: GradientClassifier, batch: Batch, epsilon: float) -> Images:
        """Return the inputs at the end of the walk."""
        return climb(model, batch, self.walk(epsilon), epsilon, targets=self.targets(model, batch))

    def walk(self, epsilon: float) -> Walk:
        """Return the settings of `climb` at radius ``epsilon``."""
        step = epsilon / self.steps if self.step_size is None else self.step_size
        return Walk(self.steps, step, early_exit=self.early_exit)

    def targets(self, model: GradientClassifier, batch: Batch) -> Labels | None:
        """Return the wanted classes, ``(batch,)``; None: any but the true one."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class BIMTargeted(BIM):
    """BIM towards the class ``target``; an input of that class stays the same.

    Raises:
        ValueError: The model has no class ``target``.
    """

    name = "bim_targeted"
    description = "BIM towards one chosen label."
    source = "Kurakin, Goodfellow & Bengio, Adversarial examples in the physical world, arXiv 1607.02533, sec. 2.3"
    targeted = True
    at_least_fgsm = False

    target: int

    def targets(self, model: GradientClassifier, batch: Batch) -> Labels:
        """Return ``target`` for every input."""
        return chosen_target(model, batch, self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class BIMLeastLikely(BIM):
    """BIM towards the class with the smallest logit of the input; the true class is never the target."""

    name = "bim_least_likely"
    description = "BIM towards the label that the model finds least likely."
    source = BIMTargeted.source
    at_least_fgsm = False

    def targets(self, model: GradientClassifier, batch: Batch) -> Labels:
        """Return the least likely classes."""
        return least_likely(model.logits(batch.images), batch.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class MIFGSM(BIM):
    """Sign steps along a running sum of L1-normalised gradients.

    Attributes:
        momentum: Share of the sum kept at each step; zero makes it BIM.
    """

    name = "mifgsm"
    description = "BIM with momentum: each step follows a running sum of the gradients."
    source = "Dong et al., Boosting adversarial attacks with momentum, arXiv 1710.06081, algorithm 1"

    momentum: float = 1.0

    def walk(self, epsilon: float) -> Walk:
        """Return the settings of `climb` at radius ``epsilon``."""
        return replace(BIM.walk(self, epsilon), momentum=self.momentum)


ATTACKS = (PGD, BIM, BIMLeastLikely, BIMTargeted, MIFGSM)
