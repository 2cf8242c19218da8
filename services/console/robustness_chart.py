"""The chart of robust accuracy by radius as plain SVG: coordinates from here, colours from the style sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buckler.measurements.results import Rate
from buckler.radius import NO_ATTACK, StatedRadius
from buckler.reporting.charts import MARKS, Line, Mark
from services.console.messages import interval, percent

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 446, 14, 206
DODGE = 8  # distance between the marks of two versions at one radius

Rates = Mapping[StatedRadius, Rate]


@dataclass(frozen=True, slots=True)
class RobustnessChart:
    """Robust accuracy by radius, one line per version; a tick is a place and its text."""

    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]


def draw(versions: Sequence[tuple[str, Rates]]) -> RobustnessChart | None:
    """Return the chart of named versions, with the radii at equal distances; None for fewer than two radii."""
    radii = sorted({radius for _, rates in versions for radius in rates})
    if len(radii) < 2:
        return None
    gap = (RIGHT - LEFT - 40) / (len(radii) - 1)
    places = {radius: LEFT + 20 + gap * i for i, radius in enumerate(radii)}
    lines = tuple(
        Line(name, f"c{number}", MARKS[number], tuple(_marks(name, rates, places, _shift(number, len(versions)))))
        for number, (name, rates) in enumerate(versions)
    )
    x_ticks = tuple((place, "no attack" if radius == NO_ATTACK else radius) for radius, place in places.items())
    return RobustnessChart(x_ticks, tuple((_height(share / 4), f"{share * 25}\u202f%") for share in range(5)), lines)


def _shift(number: int, count: int) -> float:
    return (number - (count - 1) / 2) * DODGE


def _marks(name: str, rates: Rates, places: Mapping[StatedRadius, float], shift: float) -> list[Mark]:
    return [
        Mark(
            places[radius] + shift,
            _height(rate.value),
            _height(rate.low),
            _height(rate.high),
            f"{name}, {_up_to(radius)}: {percent(rate.value)} ({interval(rate)})",
        )
        for radius, rate in sorted(rates.items())
    ]


def _up_to(radius: StatedRadius) -> str:
    return "no attack" if radius == NO_ATTACK else f"up to {radius}"


def _height(share: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * share
