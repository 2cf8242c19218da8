"""Base of modalities whose inputs are a few channels of numbers, sent as JSON: curves, signals, rows of measurements.

A file is an object with a list of numbers for each channel, in the unit of the instrument:

    {"flow": [0.0, 1.2, 4.9], "volume": [0.0, 0.1, 0.4]}

The network reads each channel scaled from its range to 0..1, ``(numbers, channels)``. A modality defines its names,
``channels``, ``unit`` and ``labels``, and ``generate``; everything else has a default here.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from buckler.error_codes import ErrorCode
from buckler.errors import DataError, UnusableInputError
from buckler.modality.base import Change, FactCheck, Images, Measure, Modality, Shape, Source, Upload, Values

if TYPE_CHECKING:
    from PIL import Image

MEASURES: Final = ("level", "spread", "roughness")
_MOST_BYTES: Final = 8_000_000
_PRINTS: Final = 256  # numbers of a fingerprint, at most
_DRAWN: Final = (480, 240)  # pixels, width and height
_INKS: Final = ((20, 90, 160), (200, 80, 30), (40, 130, 60), (120, 60, 150))
_MARK: Final = (255, 214, 90)


@dataclass(frozen=True, slots=True)
class Channel:
    """One list of numbers of a record.

    Attributes:
        name: Key in the file.
        low, high: Range that the instrument can measure; other numbers are refused.
        unit: Of the numbers, for messages.
    """

    name: str
    low: float
    high: float
    unit: str


class NumberRecords(Modality):
    """Records of numbers; ``unit.levels`` is the number of steps of the instrument from ``low`` to ``high``."""

    one, many = "record", "records"
    suffix = ".json"
    facts = ("numbers",)
    channels: ClassVar[tuple[Channel, ...]]
    quality: ClassVar[Mapping[str, tuple[bool, bool]]] = dict.fromkeys(MEASURES, (True, True))
    traffic = tuple(Measure(name) for name in MEASURES)

    def shape(self, size: int) -> Shape:
        """Return ``(size, channels)``: ``size`` numbers in each channel."""
        return (size, len(self.channels))

    def inspect(self, source: Source) -> Mapping[str, Any]:
        """Return how many numbers a channel has."""
        return {"numbers": len(self._read(source))}

    def load(self, source: Source, shape: Shape) -> Values:
        """Return a record in 0..1, ``(numbers, channels)``."""
        values = self._read(source)
        if values.shape != shape:
            raise _invalid(f"expected {shape[0]} numbers in each channel, got {len(values)}")
        return values

    def receive(
        self, content: bytes, shape: Shape, *, shown: bool = False, small: bool = False, frame: int | None = None
    ) -> Upload:
        """Return the record of a client; a record has no frames."""
        if frame not in (None, 1):
            raise _invalid(f"expected a {self.one} without frames, got a request for frame {frame}")
        values = self.load(content, shape)
        return Upload(values, size_bytes=len(content), shown=self.draw(values) if shown else None)

    def schema(self, shape: Shape) -> Mapping[str, Any]:
        """Return the JSON schema of a record: a list of ``shape[0]`` numbers for each channel."""
        properties = {
            channel.name: {
                "type": "array",
                "items": {"type": "number", "minimum": channel.low, "maximum": channel.high},
                "minItems": shape[0],
                "maxItems": shape[0],
                "description": f"In {channel.unit}",
            }
            for channel in self.channels
        }
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def to_file(self, values: Values) -> bytes:
        """Return a record as JSON, in the unit of the instrument, with the digits that its steps need."""
        found = {}
        for channel, column in zip(self.channels, values.T, strict=True):
            span = channel.high - channel.low
            digits = max(0, math.ceil(-math.log10(span / self.unit.levels)) + 2)
            found[channel.name] = [round(float(channel.low + span * value), digits) for value in column]
        return json.dumps(found).encode()

    def quality_of(self, images: Images) -> npt.NDArray[np.float32]:
        """Return level, spread and roughness of each record, ``(batch, 3)``: over all numbers of all channels."""
        places = tuple(range(1, images.ndim))
        rough = np.abs(np.diff(images, axis=1)).mean(axis=places)
        return np.stack([images.mean(axis=places), images.std(axis=places), rough], axis=1).astype(np.float32)

    def traffic_of(self, values: Values) -> Mapping[str, float]:
        """Return level, spread and roughness of a record."""
        return dict(zip(MEASURES, map(float, self.quality_of(values[None])[0]), strict=True))

    def fingerprints(self, values: Values) -> npt.NDArray[np.float32]:
        """Return the record itself, averaged to at most 256 numbers."""
        blocks = max(1, -(-values.size // _PRINTS))
        means = [part.mean(axis=0) for part in np.array_split(values, max(1, len(values) // blocks))]
        return np.concatenate(means)[None].astype(np.float32)

    def references(self, count: int, shape: Shape, seed: int) -> Images:
        """Return generated records, of each class in turn."""
        drawn = [self.generate(self.labels[index % len(self.labels)], index, seed, shape[0]) for index in range(count)]
        return self.unit.values_of(self.unit.steps_of(np.stack(drawn)))

    def checks(self, *, low: float, high: float) -> Sequence[FactCheck]:
        """Return the expectation that every record has enough numbers and not too many."""
        expected = f"{low:g} to {high:g} numbers in each channel (validate.min_side, max_side)"
        return (FactCheck("numbers", expected, "numbers", low=low, high=high),)

    @property
    def fitting_changes(self) -> Mapping[str, Change]:  # type: ignore[override]
        """Noise of the instrument, and smoothing."""
        return {"noise_1": self._noise(1), "noise_3": self._noise(3), "smoothed": self._smoothed}

    @property
    def evaluation_changes(self) -> Mapping[str, Change]:  # type: ignore[override]
        """Those of ``fitting_changes``, and noise of another strength."""
        return {**self.fitting_changes, "noise_2": self._noise(2)}

    @property
    def strangers(self) -> Mapping[str, Callable[[int, Shape, int], Images]]:  # type: ignore[override]
        """Noise, constants, square waves."""
        kinds = {"noise": _noise, "flat": _flat, "square": _square}
        return {name: self._as_strangers(draw) for name, draw in kinds.items()}

    def draw(self, values: Values) -> "Image.Image":
        """Return the channels of a record as lines."""
        from PIL import Image, ImageDraw

        width, height = _DRAWN
        picture = Image.new("RGB", _DRAWN, "white")
        pen = ImageDraw.Draw(picture)
        for place, column in enumerate(values.T):
            across = np.linspace(4, width - 5, len(column))
            points = [(float(x), float(height - 5 - (height - 10) * y)) for x, y in zip(across, column, strict=True)]
            pen.line(points if len(points) > 1 else points * 2, fill=_INKS[place % len(_INKS)], width=2)
        return picture

    def marked(self, shown: "Image.Image", relevance: npt.NDArray[np.float32]) -> "Image.Image":
        """Return a drawn record with the columns coloured that ``relevance`` ``(places,)`` names."""
        from PIL import Image

        across = np.interp(np.linspace(0, 1, shown.width), np.linspace(0, 1, len(relevance)), relevance)
        share = 0.8 * across[None, :, None]
        pixels = np.asarray(shown, np.float64)
        paper = (pixels.min(axis=2, keepdims=True) > 250) * share  # the lines keep their colours
        return Image.fromarray(np.rint(pixels * (1 - paper) + np.array(_MARK) * paper).astype(np.uint8))

    def _read(self, source: Source) -> Values:
        document = _parsed(_content(source))
        names = [channel.name for channel in self.channels]
        if set(document) != set(names):
            missing, unknown = sorted(set(names) - set(document)), sorted(set(document) - set(names))
            faults = [f"misses {missing}"] * bool(missing) + [f"has {len(unknown)} others"] * bool(unknown)
            raise _invalid(f"expected the channels {names}; the {self.one} {' and '.join(faults)}")
        columns = [_column(document[channel.name], channel) for channel in self.channels]
        if len({len(column) for column in columns}) > 1:
            raise _invalid(f"expected as many numbers in each channel, got {[len(column) for column in columns]}")
        return self.unit.values_of(self.unit.steps_of(np.stack(columns, axis=1)))

    def _noise(self, steps: int) -> Change:
        def noisy(images: Images, generator: np.random.Generator) -> Images:
            moved = images + generator.integers(-steps, steps + 1, images.shape) / self.unit.levels
            return self.unit.values_of(self.unit.steps_of(np.clip(moved, 0, 1)))

        return noisy

    def _smoothed(self, images: Images, _: np.random.Generator) -> Images:
        padded = np.pad(images, ((0, 0), (1, 1), (0, 0)), mode="edge")
        mean = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
        return self.unit.values_of(self.unit.steps_of(mean))

    def _as_strangers(
        self, draw: Callable[[np.random.Generator, int, Shape], npt.NDArray[np.float64]]
    ) -> Callable[[int, Shape, int], Images]:
        def strangers(count: int, shape: Shape, seed: int) -> Images:
            drawn = draw(np.random.default_rng(seed), count, shape)
            return self.unit.values_of(self.unit.steps_of(np.clip(drawn, 0, 1)))

        return strangers


def _noise(generator: np.random.Generator, count: int, shape: Shape) -> npt.NDArray[np.float64]:
    return generator.random((count, *shape))


def _flat(generator: np.random.Generator, count: int, shape: Shape) -> npt.NDArray[np.float64]:
    return np.broadcast_to(generator.random((count, 1, shape[1])), (count, *shape))


def _square(generator: np.random.Generator, count: int, shape: Shape) -> npt.NDArray[np.float64]:
    periods = generator.integers(2, max(3, shape[0] // 2), (count, 1, 1))
    return 0.1 + 0.8 * ((np.arange(shape[0])[None, :, None] // periods + np.zeros((1, 1, shape[1]))) % 2)


def _content(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the record {source}: {error.strerror or error}") from error


def _parsed(content: bytes) -> dict[str, Any]:
    if len(content) > _MOST_BYTES:
        raise _invalid(f"expected at most {_MOST_BYTES} bytes, got {len(content)}")
    try:
        document = json.loads(content, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise _invalid("expected JSON with an object of lists of numbers, each name once") from None
    if not isinstance(document, dict):
        raise _invalid(f"expected a JSON object with a list of numbers for each channel, got {type(document).__name__}")
    return document


def _no_number(name: str) -> float:
    raise ValueError(f"expected numbers, got {name}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("expected each name once")
    return found


def _column(numbers: Any, channel: Channel) -> npt.NDArray[np.float64]:
    """Return the numbers of a channel, scaled to 0..1."""
    if not isinstance(numbers, list) or not numbers or not set(map(type, numbers)) <= {int, float}:
        raise _invalid(f"expected a list of numbers in '{channel.name}'")
    outside = next((place for place, one in enumerate(numbers) if not channel.low <= one <= channel.high), None)
    if outside is not None:
        raise _invalid(
            f"expected '{channel.name}' of {channel.low:g} to {channel.high:g} {channel.unit}, number {outside + 1} "
            "is outside"
        )
    return (np.array(numbers, np.float64) - channel.low) / (channel.high - channel.low)


def _invalid(message: str) -> UnusableInputError:
    return UnusableInputError(ErrorCode.RECORD_INVALID, message)
