"""Charts as plain SVG: drawn here, coloured by the page, read without a script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buckler.reporting.charts import MARKS, Line, Mark, interval, percent

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 446, 14, 206
SPARK_WIDTH, SPARK_HEIGHT = 160, 36
DODGE = 8

Rates = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """Robust accuracy by radius, a curve a model."""

    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    curves: tuple[Line, ...]


def robustness(named: Sequence[tuple[str, Rates]]) -> Chart | None:
    """Return the chart of worst-case robust accuracy; radii stand at equal distances. None if nothing is known."""
    radii = sorted({radius for _, rates in named for radius in rates})
    if len(radii) < 2:
        return None
    gap = (RIGHT - LEFT - 40) / (len(radii) - 1)
    places = {radius: LEFT + 20 + gap * i for i, radius in enumerate(radii)}
    curves = tuple(
        Line(name, f"c{number}", MARKS[number], tuple(_marks(name, rates, places, _shift(number, len(named)))))
        for number, (name, rates) in enumerate(named)
    )
    x_ticks = tuple((place, f"{radius}/255" if radius else "no attack") for radius, place in places.items())
    return Chart(x_ticks, tuple((_height(share / 4), f"{share * 25}\u202f%") for share in range(5)), curves)


def _shift(number: int, count: int) -> float:
    return (number - (count - 1) / 2) * DODGE


def _marks(name: str, rates: Rates, places: Mapping[int, float], shift: float) -> list[Mark]:
    return [
        Mark(
            places[radius] + shift,
            _height(rate["value"]),
            _height(rate["low"]),
            _height(rate["high"]),
            f"{name}, {f'up to {radius}/255' if radius else 'no attack'}: {percent(rate['value'])} ({interval(rate)})",
        )
        for radius, rate in sorted(rates.items())
    ]


def _height(share: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * share


def spark(values: Sequence[float | None]) -> tuple[str, ...]:
    """Return a small line without axes as polylines; gaps where nothing was measured."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ()
    top = max(max(known), 1e-9)
    step = SPARK_WIDTH / (len(values) - 1)
    lines: list[list[str]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            lines[-1].append(f"{number * step:.1f},{SPARK_HEIGHT - 3 - (SPARK_HEIGHT - 6) * value / top:.1f}")
    return tuple(" ".join(line) for line in lines if len(line) > 1)
