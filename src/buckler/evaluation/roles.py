"""Who attacks and who answers: two views of one network, chosen in one place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from buckler.attacks.adaptive import Expectation
from buckler.compute.machine import crafting_precision
from buckler.modality.base import Images
from buckler.models.classifier import Classifier, GradientClassifier
from buckler.models.forward import Forward, Logits
from buckler.models.info import ModelInfo
from buckler.models.runtime import Runtime, is_exported

# AutoAttack's number of passes a step against randomised defences (its version "rand").
DRAWS = 20


class Judge(Protocol):
    """What answers, in the runtime that counts."""

    precision: str

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for pixels ``(batch, height, width, 3)`` in 0..1."""
        ...

    def forward(self, images: Images, progress: Callable[[int], object] | None = None) -> Forward:
        """Return logits and features of one pass; ``progress`` is told how many pictures are done."""
        ...


def sides(
    network: Any, info: ModelInfo, *, batch_size: int, seed: int, runtime: Path | None = None
) -> tuple[GradientClassifier, Judge]:
    """Return what attacks ``network`` and what answers for it; a randomised one by its expectation, either way.

    An exported network answers as it will serve. The attack has gradients of the one it was exported from.

    Args:
        network: In Keras.
        info: Of the network.
        batch_size: Of both.
        seed: Of a randomised network's draws.
        runtime: Directory of the exported network; without one ``network`` answers, in float32.
    """
    crafter = Classifier(network, crafting_precision(), batch_size=batch_size)
    if runtime and is_exported(runtime):
        return crafter, Runtime.load(runtime)
    scorer = Classifier(network, batch_size=batch_size)
    if info.defence != "randomised":
        return crafter, scorer
    return Expectation(crafter, DRAWS, seed=seed), Expectation(scorer, DRAWS, seed=seed)
