"""One-step gradient attacks."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import BALLS, generators, inner_axes, project, spread
from buckler.attacks.base import Attack, Batch, Norm, Tuning
from buckler.modality.base import Images, Labels
from buckler.models.forward import Logits
from buckler.models.gradients import GradientClassifier


class OneGradient(Attack[GradientClassifier]):
    """Base of attacks whose direction does not depend on the radius: one gradient serves every radius."""

    __slots__ = ()

    @abstractmethod
    def direction(self, model: GradientClassifier, batch: Batch) -> npt.NDArray[np.floating]:
        """Return the perturbation at radius one, ``(batch, ...)``."""

    def perturb_each(self, model: GradientClassifier, batch: Batch, epsilons: Sequence[float]) -> Iterator[Images]:
        """Yield the inputs moved along the direction by each of ``epsilons``."""
        yield from steps_along(self.direction(model, batch), batch.images, epsilons, self.norm)


@dataclass(frozen=True, slots=True, kw_only=True)
class FGSM(OneGradient):
    """Away from the true class, along the sign of the cross-entropy's gradient."""

    name = "fgsm"
    description = "Fast gradient sign method: one step of the full radius along the sign of the loss gradient."
    source = "Goodfellow, Shlens & Szegedy, Explaining and harnessing adversarial examples, arXiv 1412.6572, eq. 2"

    def direction(self, model: GradientClassifier, batch: Batch) -> npt.NDArray[np.floating]:
        """Return the gradient's sign."""
        gradient, _ = model.loss_gradient(batch.images, batch.labels)
        return np.sign(gradient)


@dataclass(frozen=True, slots=True, kw_only=True)
class FGSMTargeted(OneGradient):
    """Towards the class ``target``; an input of that class stays the same.

    Raises:
        ValueError: The model has no class ``target``.
    """

    name = "fgsm_targeted"
    description = "FGSM towards one chosen label instead of away from the true one."
    source = "Kurakin, Goodfellow & Bengio, Adversarial machine learning at scale, arXiv 1611.01236, sec. 3"
    targeted = True

    target: int

    def direction(self, model: GradientClassifier, batch: Batch) -> npt.NDArray[np.floating]:
        """Return the negative sign of the target's gradient."""
        return _towards(model, batch, chosen_target(model, batch, self.target))


@dataclass(frozen=True, slots=True, kw_only=True)
class FGSMLeastLikely(OneGradient):
    """Towards the class with the smallest logit; the true class is never the target."""

    name = "fgsm_least_likely"
    description = "FGSM towards the label that the model finds least likely."
    source = FGSMTargeted.source

    def direction(self, model: GradientClassifier, batch: Batch) -> npt.NDArray[np.floating]:
        """Return the negative sign of the least likely class's gradient."""
        return _towards(model, batch, least_likely(model.logits(batch.images), batch.labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class FGV(OneGradient):
    """Along the gradient, scaled so that its largest component has the full radius."""

    name = "fgv"
    description = "Fast gradient value: one step along the gradient itself instead of its sign."
    source = "Rozsa, Rudd & Boult, Adversarial diversity and hard positive generation, arXiv 1605.01775, sec. 3"

    def direction(self, model: GradientClassifier, batch: Batch) -> npt.NDArray[np.floating]:
        """Return the gradient with a largest component of one; zero stays zero."""
        gradient, _ = model.loss_gradient(batch.images, batch.labels)
        largest = np.abs(gradient).max(axis=inner_axes(gradient), keepdims=True)
        return np.asarray(np.divide(gradient, largest, out=np.zeros_like(gradient), where=largest > 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class RFGSM(Attack[GradientClassifier]):
    """A random step to a corner of a smaller ball, then FGSM with the rest of the radius.

    The random step leaves the neighbourhood in which a model trained on one-step attacks may bend its loss.

    Attributes:
        alpha: Size of the random step, at most the radius; half of it when not given.
    """

    name = "r_fgsm"
    description = "A small random step, then FGSM with the rest of the radius."
    source = "Tramèr et al., Ensemble adversarial training: attacks and defenses, arXiv 1705.07204, eq. 7"
    fixed: ClassVar[Tuning] = {"alpha": "epsilon / 2"}

    alpha: float | None = None

    def perturb(self, model: GradientClassifier, batch: Batch, epsilon: float) -> Images:
        """Return the inputs after both steps."""
        images, first = batch.images, epsilon / 2 if self.alpha is None else self.alpha
        if not 0 <= first <= epsilon:
            raise ValueError(f"expected alpha between 0 and epsilon {epsilon:.4f}, got {first:.4f}")
        draws = [np.sign(g.standard_normal(images.shape[1:])) for g in generators(batch.seed, batch.numbers.tolist())]
        signs = np.asarray(draws, np.float32).reshape(images.shape)
        start = project(images + np.asarray(first * signs, np.float32), images, first)
        gradient, _ = model.loss_gradient(start, batch.labels)
        moved = start + np.asarray((epsilon - first) * np.sign(gradient), np.float32)
        return project(moved, images, epsilon)


ATTACKS = (FGSM, FGSMTargeted, FGSMLeastLikely, RFGSM, FGV)


def least_likely(logits: Logits, labels: Labels) -> Labels:
    """Return the class with the smallest logit in each row, except the true one, ``(batch,)``."""
    others = logits.copy()
    others[np.arange(len(labels)), labels] = np.inf
    return np.asarray(others.argmin(axis=1), np.int64)


def check_target(target: int, classes: int) -> None:
    """Raise ValueError unless ``target`` is one of a model's ``classes``."""
    if not 0 <= target < classes:
        raise ValueError(f"expected a target class of 0 to {classes - 1}, got {target}")


def chosen_target(model: GradientClassifier, batch: Batch, target: int) -> Labels:
    """Return ``target`` for each input, ``(batch,)``.

    Raises:
        ValueError: The model has no such class.
    """
    check_target(target, model.logits(batch.images[:1]).shape[1])
    return np.full(len(batch.labels), target, np.int64)


def steps_along(
    direction: npt.NDArray[np.floating], images: Images, epsilons: Sequence[float], norm: Norm = "linf"
) -> Iterator[Images]:
    """Yield for each of ``epsilons`` the inputs moved by ``epsilon * direction``, within the ball and 0..1."""
    for epsilon in epsilons:
        yield BALLS[norm].project(images + np.asarray(epsilon * direction, np.float32), images, epsilon)


def _towards(model: GradientClassifier, batch: Batch, targets: Labels) -> npt.NDArray[np.floating]:
    gradient, _ = model.loss_gradient(batch.images, targets)
    return np.where(spread(targets == batch.labels, gradient), 0, -np.sign(gradient))
