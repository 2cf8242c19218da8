"""Attacks as objects: a frozen dataclass an attack, its settings as fields, and one call.

    adversarial = PGD(steps=10)(model, Batch(images, labels), Radius(8 / 255))

Inputs are float32 in 0..1, ``(batch, ...)``; the model normalises inside. The result has their shape, stays in 0..1
and within the radius, measured in the attack's ``norm``; a radius of zero returns the inputs. Inputs outside 0..1
raise ``InputRangeError``.

Random draws depend on the batch's ``seed`` and an input's number in ``ids``, so that an input's result does not
depend on the other inputs of its batch.

A new attack is one file: a frozen dataclass that defines ``name``, ``description``, ``source`` and either ``perturb``
or, if one gradient or one search serves several radii, ``perturb_each``; and a line in ``table.py``.
"""

from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from buckler.modality.base import BOUNDS, Images, Labels, Radius, check_pixels
from buckler.models.forward import Logits

Norm = Literal["linf", "l2"]
Knowledge = Literal["white_box", "score", "label", "transfer", "none"]
Tuning = Mapping[str, float | str]
Guess = Callable[[Images], Labels]  # inputs (batch, ...) to class indices (batch,)

# How much work an attack may do for an input. A setting of such a name is at least 1.
BUDGET: Final = ("steps", "restarts", "queries")
_MOST: Final = 1_000_000_000
# Settings that a report states by name; all others belong to `Attack.tuning`.
REPORTED: Final = (*BUDGET, "early_exit", "target")


@dataclass(frozen=True, slots=True)
class KnowledgeLevel:
    """An attacker's access to the model: a title and a sentence for people."""

    title: str
    description: str


KNOWLEDGE: Final[Mapping[Knowledge, KnowledgeLevel]] = {
    "white_box": KnowledgeLevel("white box", "The attacker has the model and computes its gradients."),
    "score": KnowledgeLevel(
        "black box, scores", "The attacker sees the probabilities of each answer and nothing of the model."
    ),
    "label": KnowledgeLevel("black box, labels", "The attacker sees the label of each answer and nothing else."),
    "transfer": KnowledgeLevel(
        "black box, transfer", "The attacker has another model for the same task and no answers of this one."
    ),
    "none": KnowledgeLevel("control", "No attacker: random change, which an attack must beat."),
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs under attack.

    Attributes:
        images: ``(n, ...)`` float32 in 0..1.
        labels: True class indices, ``(n,)``.
        ids: A number for each input, which seeds its random draws; its position when not given.
        seed: Of the random draws.
    """

    images: Images
    labels: Labels
    ids: Sequence[int] | None = None
    seed: int = 0

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Return ``ids``, or the positions."""
        return np.arange(len(self.images)) if self.ids is None else np.asarray(self.ids, np.int64)


class LogitModel(Protocol):
    """A model that gives logits: all that an attack by scores needs."""

    def logits(self, images: Images, /) -> Logits:
        """Return one score a class, ``(batch, classes)``: logits, or any increasing function of them."""
        ...


@dataclass(frozen=True, slots=True)
class ScoresOnly:
    """A function from inputs to scores as a `LogitModel`: a remote service, for example."""

    scores: Callable[[Images], Logits]

    def logits(self, images: Images, /) -> Logits:
        """Return the function's scores, ``(batch, classes)``."""
        return self.scores(images)


@dataclass(frozen=True, slots=True)
class LabelsOnly:
    """A function from inputs to class indices as a `LogitModel`: 1 for the class it returns, 0 for the others."""

    guess: Guess
    classes: int

    def logits(self, images: Images, /) -> Logits:
        """Return the labels as one-hot rows, ``(batch, classes)``."""
        return np.eye(self.classes, dtype=np.float32)[np.asarray(self.guess(images), np.int64)]


def guess_of(model: LogitModel) -> Guess:
    """Return the function from inputs to the class with the highest score."""
    return lambda images: np.asarray(model.logits(images).argmax(axis=1), np.int64)


Model = TypeVar("Model", contravariant=True)


class Attack(ABC, Generic[Model]):
    """Base of all attacks; ``Model`` is the interface that an attack needs of the model under attack.

    Attributes:
        name: In `table.ATTACKS`, ``params.yaml`` and reports.
        description: One sentence for people.
        source: The paper, with the equation or section.
        norm: What the radius measures: the largest change of a value, or the Euclidean length of the whole change.
        bounds: Smallest and largest value of an input; other inputs are rejected.
        knowledge: The attacker's access to the model, a key of `KNOWLEDGE`.
        modalities: Inputs that the attack fits; None: all.
        axes: Number of axes of an input that it fits; None: any.
        control: True for random change, which attacks are compared with.
        targeted: True for an attack towards the class ``target``.
        at_least_fgsm: True for an untargeted L-infinity attack with more gradients than FGSM: it must not be weaker.
        fixed: Constants that decide the result, and the rules that replace settings of None.
    """

    __slots__ = ()

    name: ClassVar[str]
    description: ClassVar[str]
    source: ClassVar[str] = ""
    norm: ClassVar[Norm] = "linf"
    bounds: ClassVar[tuple[float, float]] = BOUNDS
    knowledge: ClassVar[Knowledge] = "white_box"
    modalities: ClassVar[tuple[str, ...] | None] = None
    axes: ClassVar[int | None] = None
    control: ClassVar[bool] = False
    targeted: ClassVar[bool] = False
    at_least_fgsm: ClassVar[bool] = False
    fixed: ClassVar[Tuning] = {}

    def __post_init__(self) -> None:
        """Reject an empty budget."""
        outside = {name: value for name, value in self.budget.items() if not 1 <= value <= _MOST}
        if outside:
            raise ValueError(f"{self.name}: expected at least 1 and at most {_MOST}, got {outside}")

    def __call__(self, model: Model, batch: Batch, radius: Radius) -> Images:
        """Return ``batch.images`` changed by at most ``radius``."""
        return next(self.each(model, batch, [radius]))

    def each(self, model: Model, batch: Batch, radii: Sequence[Radius]) -> Iterator[Images]:
        """Yield the result for each of ``radii``; each is computed at its iteration."""
        check_pixels(batch.images, self.bounds)
        if self.axes is not None and batch.images.ndim != self.axes + 1:
            raise ValueError(f"{self.name}: expected inputs with {self.axes} axes, got shape {batch.images.shape}")
        yield from self.perturb_each(model, batch, [radius.value for radius in radii])

    def perturb_each(self, model: Model, batch: Batch, epsilons: Sequence[float]) -> Iterator[Images]:
        """Yield the result for each of ``epsilons``, radii in the unit of the inputs."""
        for epsilon in epsilons:
            yield self.perturb(model, batch, epsilon)

    def perturb(self, model: Model, batch: Batch, epsilon: float) -> Images:
        """Return the result for one radius ``epsilon``, in the unit of the inputs."""
        return next(self.perturb_each(model, batch, [epsilon]))

    @classmethod
    def fits(cls, modality: str) -> bool:
        """Return whether the attack fits inputs of ``modality``."""
        return cls.modalities is None or modality in cls.modalities

    @classmethod
    def setting_names(cls) -> list[str]:
        """Return the names of the fields."""
        return [field.name for field in fields(cls)]  # type: ignore[arg-type]

    @property
    def settings(self) -> dict[str, Any]:
        """Return the fields and their values."""
        return {name: getattr(self, name) for name in self.setting_names()}

    @property
    def budget(self) -> dict[str, int]:
        """Return the settings that bound the work for an input."""
        return {name: value for name, value in self.settings.items() if name in BUDGET}

    @property
    def tuning(self) -> dict[str, float | str]:
        """Return the values, or rules in words, that decide the result, except the settings of ``REPORTED``."""
        chosen = {n: value for n, value in self.settings.items() if n not in REPORTED and value is not None}
        return {**chosen, **{n: value for n, value in self.fixed.items() if n not in chosen}}

    @property
    def stops_at_boundary(self) -> bool:
        """Return whether the attack stops changing an input once it is wrong; a single-step attack never does."""
        settings = {"steps": 1, "early_exit": True, **self.settings}
        one_step = settings["steps"] == 1 and self.knowledge == "white_box"
        return bool(settings["early_exit"]) and not (one_step or self.control)

    def adjusted(self, **settings: Any) -> Self:
        """Return the attack with those of ``settings`` that it has."""
        own = {name: value for name, value in settings.items() if name in self.settings}
        return replace(self, **own)  # type: ignore[type-var]
