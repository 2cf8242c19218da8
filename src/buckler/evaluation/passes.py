"""Counts the passes through a network that an evaluation takes, by running it against a stand-in without weights.

How many passes an attack takes depends on when pictures give way. One stand-in never gives way, which takes the most
passes; the other gives way to any change, which takes the fewest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.evaluation import convergence, sanity
from buckler.evaluation.robustness import worst_case
from buckler.evaluation.suite import AttackSpec, run_suite
from buckler.modality.base import Images, Labels, Modality, Radius
from buckler.models.forward import Forward, Logits
from buckler.models.gradients import LossName

_PICTURES = 4
_SIDE = 8  # of a picture, in pixels


@dataclass(frozen=True, slots=True)
class Passes:
    """Passes for each picture: ``gradients`` forward and back, and ``forwards`` for an answer alone."""

    gradients: float = 0.0
    forwards: float = 0.0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.gradients + other.gradients, self.forwards + other.forwards)

    def times(self, pictures: float) -> "Passes":
        """Return the passes for so many pictures."""
        return Passes(self.gradients * pictures, self.forwards * pictures)


@dataclass(slots=True)
class _StandIn:
    """A network that counts its passes; it gives every picture in ``known`` its class 0, others only if it is stable.

    Attributes:
        classes: Number of classes.
        known: The unattacked pictures ``(n, height, width, 3)``.
        stable: Whether attacked pictures stay right.
        precision: As of a classifier.
    """

    classes: int
    known: Images
    stable: bool
    precision: str = "float32"
    gradients: int = 0
    forwards: int = 0
    _draws: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def logits(self, images: Images) -> Logits:
        self.forwards += len(images)
        return self._answers(images)

    def loss_gradient(self, images: Images, labels: Labels, loss: LossName = "cross_entropy") -> tuple[Images, Logits]:
        self.gradients += len(images)
        return self._draws.standard_normal(images.shape).astype(np.float32), self._answers(images)

    def forward(self, images: Images, progress: Callable[[int], object] | None = None) -> Forward:
        return Forward(self.logits(images), np.zeros((len(images), 1), np.float32))

    def _answers(self, images: Images) -> Logits:
        right = np.array([self.stable or any(np.array_equal(each, one) for one in self.known) for each in images], bool)
        answers = np.zeros((len(images), self.classes), np.float32)
        answers[right, 0] = answers[~right, 1] = 5.0
        return answers


def _stand_in(classes: int, stable: bool, modality: Modality) -> tuple[_StandIn, Images, Labels]:
    images = modality.references(_PICTURES, modality.shape(_SIDE), 1)
    return _StandIn(classes, images, stable), images, np.zeros(_PICTURES, np.int64)


def of_suite(suite: Sequence[AttackSpec], classes: int, modality: Modality, *, stable: bool) -> Passes:
    """Return the passes of ``suite`` for each attacked picture.

    Args:
        suite: Its lines.
        classes: Number of classes.
        modality: Of the inputs.
        stable: Whether pictures withstand every attack, which takes the most passes, or none.
    """
    model, images, labels = _stand_in(classes, stable, modality)
    run_suite(model, model, images, labels, suite, seed=0, unit=modality.unit)
    return _counted(model)


def of_checks(suite: Sequence[AttackSpec], classes: int, modality: Modality, *, stable: bool) -> Passes:
    """Return the passes of the sanity checks and convergence curves for each picture that they attack again."""
    model, images, labels = _stand_in(classes, stable, modality)
    outcomes = run_suite(model, model, images, labels, suite, seed=0, unit=modality.unit)
    clean, before = np.ones(_PICTURES, bool), _counted(model)
    worst = worst_case(outcomes, clean, labels)
    curves = convergence.measure(model, images, labels, clean, worst, seed=0, unit=modality.unit)
    sanity.doubt(
        model,
        model,
        images,
        labels,
        outcomes=outcomes,
        clean=clean,
        seed=0,
        surrogate=model,
        curves=curves,
        modality=modality,
    )
    return _counted(model) + before.times(-1)


def of_pgd(steps: int, radii: int, modality: Modality, *, stable: bool) -> Passes:
    """Return the passes of PGD at so many ``radii`` for each picture."""
    model, images, labels = _stand_in(2, stable, modality)
    ascending = [Radius((each + 1) / modality.unit.scale, modality.unit) for each in range(radii)]
    list(PGD(steps=steps).each(model, Batch(images, labels), ascending))
    return _counted(model)


def _counted(model: _StandIn) -> Passes:
    return Passes(model.gradients, model.forwards).times(1 / _PICTURES)
