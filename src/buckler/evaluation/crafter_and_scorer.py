"""Crafter and scorer of one network: the model whose gradients an attack uses, and the runtime that answers."""

from collections.abc import Callable
from typing import Any, Protocol

from buckler.attacks.adaptive import Expectation
from buckler.compute.machine import crafting_precision
from buckler.modality.base import Images
from buckler.models import restored
from buckler.models.forward import Forward, Logits
from buckler.models.gradients import GradientClassifier
from buckler.models.info import ModelInfo
from buckler.models.runtime import Runtime, is_exported
from buckler.state.locations import Location

# AutoAttack's number of passes a step against randomised defences (its version "rand").
RANDOM_DRAWS = 20


class Scorer(Protocol):
    """A model in the runtime whose answers count."""

    precision: str

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for pixels ``(batch, height, width, channels)`` in 0..1."""
        ...

    def forward(self, images: Images, progress: Callable[[int], object] | None = None) -> Forward:
        """Return logits and features of one pass; ``progress`` gets the number of pictures done."""
        ...


def choose(
    network: Any, info: ModelInfo, *, model: Location, batch_size: int, seed: int, runtime: Location | None = None
) -> tuple[GradientClassifier, Scorer]:
    """Return the crafter, which has gradients, and the scorer, in this order.

    An exported network scores in its serving runtime; the crafter uses the network it was exported from. For a
    randomised network, both are expectations over random draws. A restoration step is part of both: an attacker changes
    pictures before it.

    Args:
        network: The Keras network.
        info: Its description.
        model: Its directory, with the weights of its restoration step.
        batch_size: For both.
        seed: For the draws of a randomised network.
        runtime: Directory of the exported network; None scores with ``network`` in float32.
    """
    from buckler.models.classifier import Classifier  # loads TensorFlow, which the reports of an evaluation do without

    step = restored.step_of(info, model)
    crafter = restored.behind(step, Classifier(network, crafting_precision(), batch_size=batch_size))
    if runtime and is_exported(runtime):
        exported, served = Runtime.load(runtime), restored.step_of(info, runtime, exported=True)
        return crafter, exported if served is None else restored.Restored(served, exported)
    scorer = Classifier(network, batch_size=batch_size)
    answers = scorer if step is None else restored.RestoredClassifier(step, scorer)
    if info.defence != "randomised":
        return crafter, answers
    return Expectation(crafter, RANDOM_DRAWS, seed=seed), Expectation(answers, RANDOM_DRAWS, seed=seed)
