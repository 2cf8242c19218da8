"""What every entry of the table of attacks is made of."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from buckler.modality.base import Images, Labels
from buckler.models.classifier import GradientClassifier

Norm = Literal["linf", "l2"]
# What the attacker has of the model: its weights, the scores it answers, the labels it answers, another model, nothing.
Knowledge = Literal["white_box", "score", "label", "transfer", "none"]
Tuning = Mapping[str, float | str]


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
        knowledge: What the attacker has of the model.
        steps: Taken where nobody says how many.
        tuning: What else decides how it goes and is no option: a number, or in words the rule that gives it.
    """

    craft: Craft
    norm: Norm = "linf"
    control: bool = False
    targeted: bool = False
    knowledge: Knowledge = "white_box"
    steps: int = 1
    tuning: Tuning = field(default_factory=dict)


def entry(attack: Callable[..., Any], craft: Craft, *, tuning: Tuning | None = None, **facts: Any) -> Attack:
    """Return the entry of the function ``attack``, whose keyword defaults become the entry's steps and tuning.

    Args:
        attack: What ``craft`` calls.
        craft: The entry's.
        tuning: What ``craft`` or a rule sets instead of a default.
        facts: The entry's other attributes.
    """
    parameters = inspect.signature(attack).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default not in (p.empty, None)}
    options = {option.name for option in fields(Options)}
    fixed = {name: value for name, value in defaults.items() if name not in options}
    return Attack(craft, **{"steps": defaults.get("steps", 1), "tuning": {**fixed, **(tuning or {})}, **facts})
