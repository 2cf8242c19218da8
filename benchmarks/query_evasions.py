"""Measures how often the query monitor detects Square, with and without random changes that hide its queries.

An attacker who knows the monitor changes each query at random, which also makes the answers less exact. Here the model
is linear, so that the attack loses little: the detection rates are those of a strong attacker.

Reads   a class-per-folder directory of pictures
Writes  docs/results/query_evasions.json: a row for each change
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import results
from benchmarks.results import Column, Table
from benchmarks.tables import markdown
from buckler.attacks.base import Batch, ScoresOnly
from buckler.attacks.square import Square
from buckler.errors import BucklerError
from buckler.modality.base import LEVELS, Radius
from buckler.modality.picture import images
from buckler.modality.picture.modality import MODALITY as PICTURE
from buckler.radius import StatedRadius
from buckler.serving.query_monitor import QueryMonitor
from pipelines.stage import stage

COMMAND = "python -m benchmarks.query_evasions --images DIR"
SIZE, SEED = 224, 0
WITHIN = 50  # queries

Pixels = NDArray[np.float32]
Change = Callable[[Pixels, np.random.Generator], NDArray[np.floating[Any]]]


@dataclass(frozen=True, slots=True)
class EvasionResult:
    """Detection of the attacks with one change.

    Attributes:
        noticed_ratio: Share of attacks that are detected within ``WITHIN`` queries.
        noticed_later_ratio: Share of attacks that are detected within all queries.
        first: Median number of the first detected query; None if most attacks are not detected.
        flagged_ratio: Share of queries that would be answered ``review``.
    """

    change: str
    noticed_ratio: float
    noticed_later_ratio: float
    first: float | None
    flagged_ratio: float


def run(pictures: list[Pixels], *, epsilon: float, queries: int) -> list[EvasionResult]:
    """Return a result for each change, from one attack on each picture.

    Args:
        pictures: ``(height, width, 3)`` float32 in 0..1, sides divisible by 16.
        epsilon: L-infinity radius of Square.
        queries: Queries of each attack.
    """
    return [
        _result(name, [_flags(each, change, epsilon, queries) for each in pictures]) for name, change in CHANGES.items()
    ]


def _result(name: str, flags: list[NDArray[np.bool_]]) -> EvasionResult:
    firsts = np.array([each.argmax() + 1 if each.any() else np.inf for each in flags])
    median = float(np.median(firsts))
    return EvasionResult(
        name,
        float(np.mean(firsts <= WITHIN)),
        float(np.mean(np.isfinite(firsts))),
        median if np.isfinite(median) else None,
        float(np.mean([each.mean() for each in flags])),
    )


def _flags(picture: Pixels, change: Change, epsilon: float, queries: int) -> NDArray[np.bool_]:
    """Return for each query of one attack whether the monitor detects it."""
    monitor, generator = QueryMonitor(), np.random.default_rng(SEED)
    weights = sum(
        np.kron(
            generator.normal(size=(side, side, 3)), np.ones((picture.shape[0] // side, picture.shape[1] // side, 1))
        )
        for side in (4, 16)
    )
    offset = float((picture * weights).sum())
    flags: list[bool] = []

    def scores(queries: Pixels) -> Pixels:
        changed = (np.clip(change(each, generator), 0, 1) for each in queries)
        sent = [np.rint(each * 255).astype(np.float32) / np.float32(255) for each in changed]  # 8 bits, as in a PNG
        flags.extend(monitor.observe("attacker", each, PICTURE).in_run for each in sent)
        margins = np.array([float((each * weights).sum()) - offset for each in sent])
        return np.stack([margins, -margins], axis=1).astype(np.float32)

    search = Square(queries=queries, early_exit=False)
    search(ScoresOnly(scores), Batch(picture[None], np.zeros(1, np.int64)), Radius(epsilon))
    return np.array(flags)


def _noise(most_255: float, side: int | None = None) -> Change:
    """Add uniform noise to each pixel, or to each of ``side`` x ``side`` tiles."""

    def change(pixels: Pixels, generator: np.random.Generator) -> NDArray[np.floating[Any]]:
        height, width, colours = pixels.shape
        tiles = (side, side, colours) if side else pixels.shape
        drawn = generator.uniform(-most_255 / 255, most_255 / 255, tiles)
        return pixels + np.kron(drawn, np.ones((height // tiles[0], width // tiles[1], 1)))

    return change


def _rotated(most_degrees: float) -> Change:
    def change(pixels: Pixels, generator: np.random.Generator) -> NDArray[np.floating[Any]]:
        image = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
        around = tuple(int(value * 255) for value in pixels.mean(axis=(0, 1)))
        angle = generator.uniform(-most_degrees, most_degrees)
        return np.asarray(image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=around), np.float32) / 255

    return change


def _cropped(most_share: float) -> Change:
    def change(pixels: Pixels, generator: np.random.Generator) -> NDArray[np.floating[Any]]:
        image = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
        side = int(image.width * (1 - most_share * generator.random()))
        left, top = (int(value) for value in generator.integers(0, image.width - side + 1, 2))
        window = image.crop((left, top, left + side, top + side))
        return np.asarray(window.resize(image.size, Image.Resampling.BILINEAR), np.float32) / 255

    return change


def _turned(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    mirrored = pixels[:, ::-1] if generator.random() < 0.5 else pixels
    return np.ascontiguousarray(np.rot90(mirrored, int(generator.integers(4))))


def _contrast(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    return (pixels - 0.5) * np.float32(generator.uniform(0.7, 1.3)) + 0.5


CHANGES: Mapping[str, Change] = {
    "none": lambda pixels, _: pixels,
    "quarter turns and mirroring": _turned,
    "contrast by 30 %": _contrast,
    "noise of 64/255 a pixel": _noise(64),
    "rotation by 5 degrees": _rotated(5),
    "rotation by 10 degrees": _rotated(10),
    "rotation by 45 degrees": _rotated(45),
    "crop by 5 %": _cropped(0.05),
    "crop by 10 %": _cropped(0.10),
    "crop by 25 %": _cropped(0.25),
    "noise of 8/255 on 4 x 4 tiles": _noise(8, 4),
    "noise of 16/255 on 4 x 4 tiles": _noise(16, 4),
}


def table(rows: Sequence[EvasionResult], queries: int) -> Table:
    """Return the results as a table of the documentation."""
    columns = (
        Column("change", "each query changed by"),
        Column("noticed_ratio", f"noticed within {WITHIN}", ".0%"),
        Column("noticed_later_ratio", f"within {queries}", ".0%"),
        Column("first", "first, median", ".0f"),
        Column("flagged_ratio", "flagged", ".0%"),
    )
    shown = (asdict(row) | {"first": "never" if row.first is None else row.first} for row in rows)
    return Table(columns, tuple(shown))


def main() -> None:
    """Parse the command line, measure, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="class-per-folder directory")
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--radius", type=StatedRadius, default=StatedRadius("8/255"))
    results.add_options(parser)
    given = parser.parse_args()
    paths = sorted(given.images.glob("*/*.jpg"))
    if not paths:
        raise BucklerError(f"expected pictures in {given.images}/<class>/*.jpg, found none; give another --images")
    chosen = np.random.default_rng(SEED).choice(len(paths), min(given.pictures, len(paths)), replace=False)
    pictures = [images.load_pixels(paths[index], size=SIZE) for index in chosen]
    found = table(run(pictures, epsilon=LEVELS.radius(given.radius).value, queries=given.queries), given.queries)
    settings = {name: getattr(given, name) for name in ("pictures", "queries", "radius")}
    document = results.new("query_evasions", COMMAND, {"evasions": found}, seeds=[SEED], settings=settings)
    document.write(given.out or results.DIRECTORY)
    print(markdown(found))


if __name__ == "__main__":
    stage(main)
