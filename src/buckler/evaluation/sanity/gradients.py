"""Checks of the crafter: its outputs, its randomness and its gradients."""

from collections.abc import Iterator

import numpy as np

from buckler.attacks.adaptive import Expectation
from buckler.attacks.ball import largest
from buckler.attacks.base import Batch
from buckler.attacks.gradient import steps_along
from buckler.attacks.iterative import margins
from buckler.attacks.noise import Noise
from buckler.evaluation.crafter_and_scorer import RANDOM_DRAWS
from buckler.evaluation.sanity.base import Check, CheckedEvaluation, Observation, tolerated

# A smaller gradient is a remainder of underflow; float32's smallest normal number is 1.2e-38.
VANISHING = 1e-30
# Share of pictures on which the gradient must lead uphill over one level; on some the loss may bend within a level.
UPHILL = 0.9


def _logits_not_probabilities(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    logits = evaluation.crafter.logits(evaluation.images[evaluation.rows])
    like_probabilities = bool(np.all(logits >= 0) and np.allclose(logits.sum(axis=1), 1, atol=1e-3))
    yield Observation(
        not like_probabilities,
        f"outputs between {logits.min():.3f} and {logits.max():.3f}, rows sum to {logits.sum(axis=1).mean():.3f}",
    )


def _attacked_through_expectation(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    if evaluation.randomised:
        draws = evaluation.crafter.draws if isinstance(evaluation.crafter, Expectation) else 1
        yield Observation(
            draws >= RANDOM_DRAWS,
            f"the model declares itself randomised; attacked through {draws} draws a step, at least {RANDOM_DRAWS} "
            f"needed",
        )


def _deterministic_forward(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    if not evaluation.randomised:
        images = evaluation.images[evaluation.rows]
        difference = max(
            float(np.abs(model.logits(images) - model.logits(images)).max())
            for model in (evaluation.crafter, evaluation.scorer)
        )
        yield Observation(difference == 0, f"two passes differ by at most {difference:.3g}")


def _gradients_not_zero(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    rows = evaluation.rows
    gradient, _ = evaluation.crafter.loss_gradient(evaluation.images[rows], evaluation.labels[rows])
    flat = largest(gradient) < VANISHING
    yield Observation(
        int(flat.sum()) <= tolerated(len(flat)),
        f"{int(flat.sum())} of {len(flat)} pictures have no gradient, or one lost to underflow",
    )


def _gradients_point_uphill(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    """Compare with finite differences: a level along the gradient must cost more margin than a random level."""
    unit, many = evaluation.modality.unit, evaluation.modality.many
    rows, level = evaluation.rows[evaluation.clean[evaluation.rows]], unit.radius(unit.stated(1))
    batch = Batch(evaluation.images[rows], evaluation.labels[rows], rows.tolist(), evaluation.seed)
    gradient, _ = evaluation.crafter.loss_gradient(batch.images, batch.labels)
    along = next(steps_along(np.sign(gradient), batch.images, [level.value]))
    random = Noise()(evaluation.crafter, batch, level)
    before, after, after_random = (
        margins(evaluation.scorer.logits(images), batch.labels) for images in (batch.images, along, random)
    )
    uphill = after < np.minimum(before, after_random)
    yield Observation(
        int(uphill.sum()) >= UPHILL * len(rows) - 1,
        f"on {int(uphill.sum())} of {len(rows)} {many} a step of {unit.stated(1)} along the gradient costs margin, "
        f"and more than a random one",
    )


LOGITS = Check(
    "logits_not_probabilities",
    "The crafter's outputs are compared with probabilities.",
    "The model ends in a softmax, which flattens every gradient.",
    _logits_not_probabilities,
)
EXPECTATION = Check(
    "attacked_through_expectation",
    "A model that declares itself randomised is attacked through the mean over at least 20 draws a step (EOT).",
    "Chance hides the gradient from the attack.",
    _attacked_through_expectation,
)
DETERMINISTIC = Check(
    "deterministic_forward",
    "Two passes over the same pictures are compared.",
    "The model draws random numbers without declaring it.",
    _deterministic_forward,
)
NOT_ZERO = Check(
    "gradients_not_zero",
    "Pictures without a gradient are counted.",
    "The gradients are masked or saturated: an attack can only be as good as its gradient.",
    _gradients_not_zero,
)
UPHILL_STEP = Check(
    "gradients_point_uphill",
    "A step along the gradient is compared with a random step of the same size.",
    "The gradients lead nowhere, as behind quantised or non-differentiable preprocessing.",
    _gradients_point_uphill,
)
