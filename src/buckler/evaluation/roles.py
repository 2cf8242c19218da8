"""Who attacks and who answers: two views of one network, chosen in one place."""

from collections.abc import Callable
from typing import Any, Protocol

from buckler.attacks.adaptive import Expectation
from buckler.models.classifier import Classifier, GradientClassifier
from buckler.models.forward import Forward, Images, Logits
from buckler.models.info import ModelInfo
from buckler.models.precision import crafting_precision

# AutoAttack's number of passes a step against randomised defences (its version "rand").
DRAWS = 20


class Judge(Protocol):
    """What answers, in the precision that counts."""

    precision: str

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for pixels ``(batch, height, width, 3)`` in 0..1."""
        ...

    def forward(self, images: Images, progress: Callable[[int], object] | None = None) -> Forward:
        """Return logits and features of one pass; ``progress`` is told how many pictures are done."""
        ...


def sides(network: Any, info: ModelInfo, *, batch_size: int, seed: int) -> tuple[GradientClassifier, Judge]:
    """Return what attacks ``network`` and what answers for it; a randomised one by its expectation, either way.

    Args:
        network: In Keras.
        info: Of the network.
        batch_size: Of both.
        seed: Of a randomised network's draws.
    """
    crafter, scorer = (Classifier(network, kind, batch_size=batch_size) for kind in (crafting_precision(), "float32"))
    if info.defence != "randomised":
        return crafter, scorer
    return Expectation(crafter, DRAWS, seed=seed), Expectation(scorer, DRAWS, seed=seed)
