"""Universal perturbations: one change for every input."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from buckler.attacks.ball import project
from buckler.attacks.base import Attack, Batch, Tuning
from buckler.attacks.iterative import EXIT_MARGIN, margins
from buckler.modality.base import BOUNDS, Images, Labels
from buckler.models.gradients import GradientClassifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Universal(Attack[GradientClassifier]):
    """Sign-gradient ascent, by one perturbation, on the cross-entropy summed over the batch.

    Inputs that are wrong by a clear margin do not count in the sum; they would otherwise dominate it. The perturbation
    is learnt on the inputs on which it is evaluated: a real attacker must learn it on other inputs and is weaker. This
    is the only attack whose result depends on the whole batch.

    Attributes:
        steps: Passes over the batch.
        step_size: In the unit of the inputs; ``epsilon / 4`` when not given.
        batch_size: Inputs whose losses are summed for a step.
    """

    name = "universal"
    description = "One perturbation for all pictures, learnt on these pictures."
    source = (
        "Moosavi-Dezfooli et al., Universal adversarial perturbations, arXiv 1610.08401, for the idea; "
        "Shafahi et al., Universal adversarial training, arXiv 1811.11304, for the ascent"
    )
    fixed: ClassVar[Tuning] = {"step_size": "epsilon / 4", "exit_margin": EXIT_MARGIN}

    steps: int = 10
    step_size: float | None = None
    batch_size: int = 32

    def perturb(self, model: GradientClassifier, batch: Batch, epsilon: float) -> Images:
        """Return the inputs with their common perturbation."""
        perturbation = self.learn(model, batch, epsilon)
        return project(apply_perturbation(batch.images, perturbation), batch.images, epsilon)

    def learn(self, model: GradientClassifier, batch: Batch, epsilon: float) -> Images:
        """Return the perturbation, of the shape of one input, that makes most inputs of ``batch`` wrong."""
        images, labels = batch.images, batch.labels
        step = epsilon / 4 if self.step_size is None else self.step_size
        generator = np.random.default_rng(batch.seed)
        now = best = np.zeros(images.shape[1:], np.float32)
        most = np.inf
        for _ in range(self.steps):
            order = generator.permutation(len(images))
            for start in range(0, len(images), self.batch_size):
                rows = order[start : start + self.batch_size]
                ascent = _ascent(model, apply_perturbation(images[rows], now), labels[rows])
                now = np.clip(now + np.float32(step) * np.sign(ascent), -epsilon, epsilon).astype(np.float32)
            # Steps of one length oscillate near the end, so the best epoch counts and not the last.
            right = margins(model.logits(apply_perturbation(images, now)), labels) > 0
            if right.sum() < most:
                best, most = now, right.sum()
            if not right.any():
                break
        return best


ATTACKS = (Universal,)


def apply_perturbation(images: Images, perturbation: Images) -> Images:
    """Return ``images`` ``(n, ...)`` with ``perturbation``, of the shape of one of them, added, within 0..1.

    Raises:
        ValueError: The shapes do not fit.
    """
    if images.shape[1:] != perturbation.shape:
        raise ValueError(f"expected a perturbation of shape {images.shape[1:]}, got {perturbation.shape}")
    return np.asarray(np.clip(images + perturbation, *BOUNDS), np.float32)


def _ascent(classifier: GradientClassifier, images: Images, labels: Labels) -> Images:
    """Return the gradient of the loss summed over the inputs that are not wrong by a clear margin."""
    gradient, logits = classifier.loss_gradient(images, labels)
    going = margins(logits, labels) > -EXIT_MARGIN * np.abs(logits).max(axis=-1)
    return np.asarray(gradient[going].sum(axis=0), np.float32)
