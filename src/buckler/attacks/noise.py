"""The control of every evaluation: random change of the same size."""

from dataclasses import dataclass

import numpy as np

from buckler.attacks.ball import generators, project
from buckler.attacks.base import Attack, Batch
from buckler.modality.base import Images


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise(Attack[object]):
    """Every value moved by plus or minus the radius at random: to the corners of the ball, as FGSM moves them."""

    name = "noise"
    description = "Random change of the full radius: answers that it flips need no attacker."
    knowledge = "none"
    control = True

    def perturb(self, model: object, batch: Batch, epsilon: float) -> Images:
        """Return the inputs with random signs added; ``model`` is not used."""
        shape = batch.images.shape
        draws = generators(batch.seed, batch.numbers.tolist())
        signs = [draw.integers(0, 2, shape[1:], dtype=np.int8) * 2 - 1 for draw in draws]
        perturbation = np.asarray(signs, np.float32).reshape(shape) * np.float32(epsilon)
        return project(batch.images + perturbation, batch.images, epsilon)


ATTACKS = (Noise,)
