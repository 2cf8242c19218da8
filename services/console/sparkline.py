"""Small line charts without axes, as the points of SVG polylines."""

from collections.abc import Sequence

WIDTH, HEIGHT = 160, 36
MARGIN = 3  # above and below the line


def polylines(values: Sequence[float | None]) -> tuple[str, ...]:
    """Return ``values`` as polylines, interrupted where a value is None; empty with fewer than two values."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ()
    top = max(max(known), 1e-9)
    step = WIDTH / (len(values) - 1)
    lines: list[list[str]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            lines[-1].append(f"{number * step:.1f},{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * value / top:.1f}")
    return tuple(" ".join(line) for line in lines if len(line) > 1)
