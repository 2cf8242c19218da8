"""The attacks by name, behind one call: pictures in, one set of adversarial pictures a radius out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buckler.attacks.gradient import fgsm_grid
from buckler.attacks.iterative import pgd
from buckler.attacks.noise import sign_noise
from buckler.models.classifier import GradientClassifier, Images, Labels


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures under attack: ``images`` (n, h, w, 3) in 0..1, true ``labels`` (n,), a number each in ``ids``."""

    images: Images
    labels: Labels
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Options:
    """How hard an attack tries; an attack ignores what it does not have."""

    steps: int = 1
    restarts: int = 1
    early_exit: bool = True
    seed: int = 0


Craft = Callable[[GradientClassifier, Batch, Sequence[float], Options], Iterator[Images]]


@dataclass(frozen=True, slots=True)
class Attack:
    """An entry of the table.

    Attributes:
        craft: Yields adversarial images, one set for each epsilon, in the order given.
        norm: The ball that ``epsilon`` measures.
        control: True for what is no attack but what an attack must beat.
    """

    craft: Craft
    norm: str = "linf"
    control: bool = False


def _fgsm(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    return fgsm_grid(classifier, batch.images, batch.labels, epsilons=epsilons)


def _pgd(classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options) -> Iterator[Images]:
    tuning: Mapping[str, Any] = {
        "steps": options.steps,
        "restarts": options.restarts,
        "early_exit": options.early_exit,
        "seed": options.seed,
        "ids": batch.ids,
    }
    return (pgd(classifier, batch.images, batch.labels, epsilon=epsilon, **tuning) for epsilon in epsilons)


def _noise(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    return (sign_noise(batch.images, epsilon=e, seed=options.seed, ids=batch.ids) for e in epsilons)


ATTACKS: dict[str, Attack] = {
    "fgsm": Attack(_fgsm),
    "pgd": Attack(_pgd),
    "noise": Attack(_noise, control=True),
}
