"""What an input is: its shape, files, grid, harmless changes, measures. One folder a modality, with one `Modality`.

All code outside a modality's folder knows an input only through that object, which `buckler.modality.table` finds by
its name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import numpy as np
import numpy.typing as npt

from buckler.errors import InputRangeError, ParamsError, UnusableInputError
from buckler.radius import StatedRadius

if TYPE_CHECKING:
    from PIL import Image

Values = npt.NDArray[np.float32]  # one input, of the modality's shape, 0..1
Images = npt.NDArray[np.float32]  # (batch, ...), inputs in 0..1; of pictures (batch, height, width, 3)
Labels = npt.NDArray[np.int64]  # (batch,), class indices
Shape = tuple[int, ...]  # of one input
Change = Callable[[Images, np.random.Generator], Images]  # inputs to as many changed inputs
Source = Path | bytes  # a file, or its content
BOUNDS: Final = (0.0, 1.0)  # of every value of an input
Item = TypeVar("Item")
UNRESTORED: Final = "none"  # name of the restoration step that changes nothing


@dataclass(frozen=True, slots=True)
class RadiusUnit:
    """Unit in which people state a radius.

    Attributes:
        scale: What the values of an input, 0..1, are multiplied by.
        suffix: Of the text form: ``/255``, for example.
        levels: Steps between 0 and 1 of the grid on which inputs can be written down.
    """

    scale: float
    suffix: str
    levels: float

    def stated(self, number: float) -> StatedRadius:
        """Return the radius of ``number`` in this unit, as people state it."""
        return StatedRadius(f"{number:g}{self.suffix}")

    def radius(self, stated: StatedRadius) -> "Radius":
        """Return ``stated`` in units of the input.

        Raises:
            ParamsError: It has another unit.
        """
        if stated.unit != self.suffix:
            raise ParamsError(f"expected a radius in the unit of the modality, as 1{self.suffix}, got {stated}")
        return Radius(stated.number / self.scale, self)

    def grid_steps(self, stated: StatedRadius) -> int:
        """Return how many steps of the grid ``stated`` is, rounded; errors as of `radius`."""
        return round(self.radius(stated).value * self.levels)

    def steps_of(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return ``values``, 0..1, as whole steps of the grid, in the smallest type that holds them."""
        steps: npt.NDArray[np.unsignedinteger[Any]] = np.rint(values * self.levels).astype(
            np.min_scalar_type(int(self.levels))
        )
        return steps

    def values_of(self, steps: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.float32]:
        """Return the values, 0..1, of whole ``steps`` of the grid."""
        return np.asarray(steps.astype(np.float32) / np.float32(self.levels))


LEVELS = RadiusUnit(255, "/255", 255)  # of 8-bit pictures


@dataclass(frozen=True, slots=True)
class Radius:
    """Largest change that an attack may make.

    Attributes:
        value: Size of the change in units of the input, whose values are in 0..1.
        unit: Unit of the text form: ``str(Radius(8 / 255))`` is ``8/255``.
    """

    value: float
    unit: RadiusUnit = LEVELS

    def __post_init__(self) -> None:
        """Reject a negative radius."""
        if not self.value >= 0:
            raise ValueError(f"expected a radius of at least 0, got {self.value}")

    def __str__(self) -> str:
        return f"{self.value * self.unit.scale:.6g}{self.unit.suffix}"


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that describes an input, such as its brightness.

    Attributes:
        name: In databases, metrics and reports.
        skewed: Whether the numbers are positive and have a long tail: sharpness of a picture, for example.
    """

    name: str
    skewed: bool = False


@dataclass(frozen=True, slots=True)
class FactCheck:
    """What is expected of a fact of every file, for the stage ``validate``.

    Attributes:
        name: Of the expectation in reports.
        expected: In words.
        fact: Name of the fact.
        among: Values that it may have; None if it is a number from ``low`` to ``high``.
        low, high: Smallest and largest number.
        mostly: Share of the files that must meet the expectation.
    """

    name: str
    expected: str
    fact: str
    among: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    mostly: float = 1.0


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two near-duplicates.

    Attributes:
        first, second: Their indices.
        bits: Hamming distance of their 64-bit hashes in the best orientation.
        correlation: Of their thumbnails, -1..1.
    """

    first: int
    second: int
    bits: int
    correlation: float


@dataclass(frozen=True, slots=True)
class Upload:
    """A decoded upload of a client.

    Attributes:
        values: The input.
        width, height: Sides of an upright picture before resizing; None of other inputs, or if the client sent values.
        size_bytes: Size of the file; None if the client sent values.
        shown: A picture of the input for people, RGB, without metadata; None unless asked for.
    """

    values: Values
    width: int | None = None
    height: int | None = None
    size_bytes: int | None = None
    shown: "Image.Image | None" = field(default=None, repr=False)


class Modality(ABC):
    """Everything that depends on what an input is.

    Attributes:
        name: Of its folder, as in ``data.modality`` and ``model.json``.
        one, many: What people call an input and several.
        unit: Of radii.
        suffix: Of the files that ``to_file`` writes.
        facts: Names of what ``inspect`` finds out about a file, at least one; columns of the manifest.
        labels: Classes of the generator.
        findings: Findings that the generator draws together; `generate` then takes a label of `buckler.findings`.
        fitting_changes: Changes that are no attacks, on which the detector is fitted.
        evaluation_changes: Those with which it is evaluated; some that it was not fitted on.
        strangers: Inputs that do not belong, by kind: functions of count, shape and seed.
        quality: Measures of the quality check, each with whether a small and a large value count as poor.
        traffic: Measures of served inputs, for drift.
        restorations: Steps that may change an input before it is classified, the first of which changes nothing.
    """

    name: ClassVar[str]
    one: ClassVar[str]
    many: ClassVar[str]
    unit: ClassVar[RadiusUnit]
    suffix: ClassVar[str]
    facts: ClassVar[tuple[str, ...]]
    labels: ClassVar[tuple[str, ...]]
    findings: ClassVar[tuple[str, ...]] = ()
    fitting_changes: ClassVar[Mapping[str, Change]]
    evaluation_changes: ClassVar[Mapping[str, Change]]
    strangers: ClassVar[Mapping[str, Callable[[int, Shape, int], Images]]]
    quality: ClassVar[Mapping[str, tuple[bool, bool]]]
    traffic: ClassVar[tuple[Measure, ...]]
    restorations: ClassVar[tuple[str, ...]] = (UNRESTORED,)

    @abstractmethod
    def shape(self, size: int) -> Shape:
        """Return the shape of an input of the ``size`` that params.yaml states as ``data.image_size``."""

    @abstractmethod
    def inspect(self, source: Source) -> Mapping[str, Any]:
        """Decode ``source`` completely and return its ``facts``; errors as of ``load``."""

    @abstractmethod
    def load(self, source: Source, shape: Shape) -> Values:
        """Return a file's input in 0..1, of ``shape``.

        Raises:
            UnusableInputError: The file is incomplete, of another format or exceeds a limit; ``code`` says which.
            DataError: ``source`` is a path that cannot be read.
        """

    @abstractmethod
    def receive(
        self, content: bytes, shape: Shape, *, shown: bool = False, small: bool = False, frame: int | None = None
    ) -> Upload:
        """Return the input of a client's file, with facts about the file; errors as of ``load``.

        Args:
            content: The file.
            shape: Of the input.
            shown: Whether to draw the input for people, too.
            small: Refuse, as too large, a file that takes too much memory to be decoded beside others.
            frame: Number of the part of the file that is read, from 1; a file of several needs one.
        """

    def schema(self, shape: Shape) -> Mapping[str, Any] | None:
        """Return the JSON schema of a record that ``receive`` takes; by default None: records are no JSON."""
        return None

    @abstractmethod
    def marked(self, shown: "Image.Image", relevance: npt.NDArray[np.float32]) -> "Image.Image":
        """Return ``shown``, the drawing of an input, with the places marked that ``relevance``, 0..1, names."""

    @abstractmethod
    def draw(self, values: Values) -> "Image.Image":
        """Return an input as a picture for people, RGB."""

    @abstractmethod
    def to_file(self, values: Values) -> bytes:
        """Return an input as a file, from which ``load`` reads the same values if they lie on the grid."""

    @abstractmethod
    def generate(self, label: str, index: int, seed: int, size: int) -> Values:
        """Return input ``index`` of the class ``label``, drawn from ``seed``, on the grid."""

    def mask(self, label: str, index: int, seed: int, size: int) -> npt.NDArray[np.bool_] | None:
        """Return which places of a generated input show what decides about its class; None if it is not known."""
        return None

    @abstractmethod
    def quality_of(self, images: Images) -> npt.NDArray[np.float32]:
        """Return the measures ``quality`` of ``images``, ``(batch, measures)``."""

    @abstractmethod
    def traffic_of(self, values: Values) -> Mapping[str, float]:
        """Return the measures ``traffic`` of one input."""

    @abstractmethod
    def fingerprints(self, values: Values) -> npt.NDArray[np.float32]:
        """Return numbers that nearly equal inputs share, ``(forms, numbers)``.

        The first row is of the input, further rows of its forms that count as the same, such as its mirror image. The
        root mean square difference of two rows is in the unit of the inputs.
        """

    @abstractmethod
    def references(self, count: int, shape: Shape, seed: int) -> Images:
        """Return inputs on the grid, ``(count, *shape)``, to compare the answers of runtimes."""

    def appearance(self, source: Source) -> Any:
        """Return what ``near_duplicates`` compares of a file; errors as of ``load``."""
        return None

    def near_duplicates(self, appearances: Sequence[Any], *, max_bits: int, min_correlation: float) -> list[Pair]:
        """Return the pairs of files that show the same thing; by default none but identical files, which need no look.

        Args:
            appearances: Of the files.
            max_bits, min_correlation: ``split.near_duplicate_bits`` and ``near_duplicate_correlation``.
        """
        return []

    def checks(self, *, low: float, high: float) -> Sequence[FactCheck]:
        """Return what is expected of the facts; ``low`` and ``high`` are ``validate.min_side`` and ``max_side``."""
        return ()

    def varied(self, images: Images, generator: np.random.Generator) -> Images:
        """Return training inputs in forms that show the same, such as mirror images; by default as they are."""
        return images

    def stretched(self, relevance: npt.NDArray[np.float32], shape: Shape) -> npt.NDArray[np.float32]:
        """Return ``relevance``, one number a place of a network's last maps, for each place of ``shape``, 0..1."""
        places = np.ix_(*(np.arange(n) * have // n for n, have in zip(shape, relevance.shape, strict=True)))
        return relevance[places]


@dataclass(frozen=True, slots=True)
class InputForm:
    """What a network reads: inputs of a ``modality`` in one ``shape``."""

    modality: Modality
    shape: Shape

    def load(self, source: Source) -> Values:
        """Return a file's input, of ``shape``; errors as of `Modality.load`."""
        return self.modality.load(source, self.shape)

    def load_batch(self, paths: Sequence[Path], *, description: str | None = None) -> Images:
        """Return the inputs of ``paths``, ``(batch, *shape)``; a ``description`` shows a progress bar.

        Raises:
            UnusableInputError: As `Modality.load`; the message begins with the path.
        """
        images = np.empty((len(paths), *self.shape), np.float32)
        for index, path in enumerate(with_progress(paths, description, self.modality.one)):
            try:
                images[index] = self.load(path)
            except UnusableInputError as error:
                raise error.at(path) from error
        return images


def with_progress(items: Sequence[Item], description: str | None, unit: str) -> Iterable[Item]:
    """Return ``items``; a ``description`` shows a progress bar."""
    if description is None:
        return items
    from tqdm import tqdm  # not installed with the service, which shows no progress bars

    bar: Iterable[Item] = tqdm(items, desc=description, unit=unit)
    return bar


def check_pixels(images: Images, bounds: tuple[float, float] = BOUNDS) -> None:
    """Raise InputRangeError unless every value lies within ``bounds``."""
    low, high = bounds
    if images.size and not (images.min() >= low and images.max() <= high):
        found = f"[{images.min():.3f}, {images.max():.3f}]"
        raise InputRangeError(f"expected pixels in [{low:g}, {high:g}], got {found}; pass images before normalisation")
