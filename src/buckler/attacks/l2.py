"""Gradient attacks in the Euclidean ball: a few large changes cost as much as many small ones."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import unit_l2
from buckler.attacks.base import Batch
from buckler.attacks.gradient import OneGradient
from buckler.attacks.iterative import PGD
from buckler.models.gradients import GradientClassifier


@dataclass(frozen=True, slots=True, kw_only=True)
class FGML2(OneGradient):
    """Along the cross-entropy's gradient, scaled to the radius."""

    name = "fgm_l2"
    description = "One step along the gradient, bounded by the length of the whole change."
    source = (
        "Miyato, Dai & Goodfellow, Adversarial training methods for semi-supervised text classification, "
        "arXiv 1605.07725, eq. 4"
    )
    norm = "l2"

    def direction(self, model: GradientClassifier, batch: Batch) -> npt.NDArray[np.floating]:
        """Return the gradient at length one."""
        gradient, _ = model.loss_gradient(batch.images, batch.labels)
        return unit_l2(gradient)


@dataclass(frozen=True, slots=True, kw_only=True)
class PGDL2(PGD):
    """PGD whose steps, starts and projection are Euclidean; ``step_size`` is a length."""

    name = "pgd_l2"
    description = "PGD bounded by the length of the whole change."
    norm = "l2"
    at_least_fgsm = False


ATTACKS = (FGML2, PGDL2)
