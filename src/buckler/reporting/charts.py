"""Line charts of rates for the report's page: coordinates of lines and marks, in units of an SVG view box.

The page draws them as SVG in its own colours, for light and dark screens and for paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buckler.measurements.results import Convergence, Rate
from buckler.radius import StatedRadius

WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 40, 372, 12, 238  # of the plotting area; labels are outside
DODGE = 5  # between lines at the same radius, so that their intervals do not overlap
# Centred shapes: marks distinguish the lines for readers who cannot distinguish the colours.
MARKS = (
    "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0z",
    "M-3.2,-3.2h6.4v6.4h-6.4z",
    "M0,-4.2L4,3H-4z",
    "M0,-4.6L4.6,0L0,4.6L-4.6,0z",
    "M0,4.2L4,-3H-4z",
)
COLOURS = 8  # classes c0 to c7 of the style sheet


@dataclass(frozen=True, slots=True)
class Mark:
    """One value at ``x``, ``y``, its interval from ``low`` to ``high`` (none if equal), and its description."""

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of ``marks``; ``style`` is a class of the style sheet, ``shape`` the SVG path of each mark."""

    name: str
    style: str
    shape: str
    marks: tuple[Mark, ...]

    @property
    def path(self) -> str:
        """Return the line as the points of an SVG polyline."""
        return " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in self.marks)


@dataclass(frozen=True, slots=True)
class ReferenceLine:
    """A horizontal line, such as chance, labelled at its right end at the height ``label_y``."""

    name: str
    value: str
    style: str
    y: float
    label_y: float


@dataclass(frozen=True, slots=True)
class LineChart:
    """A chart, drawn in this order: ticks ``(position, label)``, levels, lines."""

    x_label: str
    y_label: str
    x_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    levels: tuple[ReferenceLine, ...] = ()

    @property
    def y_ticks(self) -> tuple[tuple[float, str], ...]:
        """Return ticks at each fifth of the range."""
        return tuple((height(share / 5), f"{share * 20}%") for share in range(6))


@dataclass(frozen=True, slots=True)
class Curve:
    """The data of one line: a rate at each radius."""

    name: str
    rates: dict[StatedRadius, Rate]
    style: str | None = None  # None: the line's own colour


def height(share: float) -> float:
    """Return the y coordinate of ``share``, 0..1."""
    return BOTTOM - (BOTTOM - TOP) * share


def percent(share: float) -> str:
    """Return ``share`` in per cent."""
    return f"{share:.1%}"


def interval(rate: Rate) -> str:
    """Return the interval of ``rate`` in per cent."""
    return f"{percent(rate.low)} to {percent(rate.high)}"


def by_radius(curves: Sequence[Curve], *, clean: Rate, chance: float, x_label: str) -> LineChart:
    """Return robust accuracy by evenly spaced radii; every line starts at the clean accuracy."""
    radii = sorted({radius for curve in curves for radius in curve.rates})
    gap = (RIGHT - LEFT - 30) / max(len(radii), 1)
    places = {radius: LEFT + 8 + gap * (i + 1) for i, radius in enumerate(radii)}
    step = min(DODGE, gap * 0.7 / max(len(curves), 1))
    start = Mark(LEFT + 8, height(clean.value), 0, 0, f"no attack: {percent(clean.value)}")
    lines = []
    for number, curve in enumerate(curves):
        shift = 0 if curve.style else (number - (len(curves) - 1) / 2) * step
        marks = [
            _mark(places[radius] + shift, radius, rate, curve.name) for radius, rate in sorted(curve.rates.items())
        ]
        lines.append(_line(curve.name, curve.style, number, (start, *marks)))
    return LineChart(
        x_label=x_label,
        y_label="robust accuracy",
        x_ticks=((start.x, "0"), *((place, radius) for radius, place in places.items())),
        lines=tuple(lines),
        levels=_levels({"clean": clean.value, "chance": chance}),
    )


def by_step(curves: Sequence[Convergence]) -> LineChart:
    """Return attack success by gradient step, one line per radius."""
    last = max(curve.steps[-1] for curve in curves)
    scale = (RIGHT - LEFT - 8) / max(last, 1)
    lines = []
    for number, curve in enumerate(curves):
        name = curve.radius
        points = zip(curve.steps, curve.success_rate, strict=True)
        marks = [_point(LEFT + scale * step, share, f"{name}, step {step}: {percent(share)}") for step, share in points]
        lines.append(_line(name, None, number, tuple(marks)))
    ticks = sorted({round(last * quarter / 4) for quarter in range(5)})
    return LineChart(
        x_label="gradient steps",
        y_label="attack success rate",
        x_ticks=tuple((LEFT + scale * tick, str(tick)) for tick in ticks),
        lines=tuple(lines),
    )


def _mark(x: float, radius: StatedRadius, rate: Rate, name: str) -> Mark:
    text = f"{name} at {radius}: {percent(rate.value)} ({interval(rate)})"
    return Mark(x, height(rate.value), height(rate.low), height(rate.high), text)


def _point(x: float, share: float, text: str) -> Mark:
    return Mark(x, height(share), 0, 0, text)


def _line(name: str, style: str | None, number: int, marks: tuple[Mark, ...]) -> Line:
    return Line(name, style or f"c{number % COLOURS}", MARKS[number % len(MARKS)], marks)


def _levels(values: Mapping[str, float]) -> tuple[ReferenceLine, ...]:
    """Return a line for each value, highest first, with labels at least two lines of text apart."""
    levels: list[ReferenceLine] = []
    for name, share in sorted(values.items(), key=lambda item: -item[1]):
        label_y = max(height(share), levels[-1].label_y + 28) if levels else height(share)
        levels.append(ReferenceLine(name, percent(share), name, height(share), label_y))
    return tuple(levels)
