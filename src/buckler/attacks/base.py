"""What every entry of the table of attacks is made of."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from buckler.models.classifier import GradientClassifier, Images, Labels

Norm = Literal["linf", "l2"]
Knowledge = Literal["white_box", "score", "label", "transfer", "none"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures under attack: ``images`` (n, h, w, 3) in 0..1, true ``labels`` (n,), a number each in ``ids``."""

    images: Images
    labels: Labels
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Options:
    """How hard an attack tries, and at what; an attack ignores what it does not have.

    ``queries`` is the budget a picture of an attack that only asks for answers.
    """

    steps: int = 1
    restarts: int = 1
    early_exit: bool = True
    seed: int = 0
    target: int | None = None
    queries: int = 1000


Craft = Callable[[GradientClassifier, Batch, Sequence[float], Options], Iterator[Images]]


@dataclass(frozen=True, slots=True)
class Attack:
    """An entry of the table.

    Attributes:
        craft: Yields adversarial images, one set for each epsilon, in the order given.
        norm: What ``epsilon`` measures: the largest change of a pixel, or the Euclidean length of the whole change;
            both in the unit of the pixels, 0..1.
        control: True for what is no attack but what an attack must beat.
        targeted: True for what leads to the class ``Options.target``, which it cannot do without.
        knowledge: What the attacker has of the model: everything, its scores, its labels, another model, nothing.
    """

    craft: Craft
    norm: Norm = "linf"
    control: bool = False
    targeted: bool = False
    knowledge: Knowledge = "white_box"
