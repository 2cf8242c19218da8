"""Measures what the stored traffic tells about single pictures, and which drift it still shows: unmixed and mixed.

An attacker reads the traffic's database, owns a set of pictures, knows the released model and the method of mixing, and
wants to know which of the pictures were sent. Without mixing, every row is an exact fingerprint.

Reads   a class-per-folder directory of pictures
Writes  docs/results/traffic_privacy.json
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks import drift, results, signing
from benchmarks.results import CellValue, Column, Table
from benchmarks.serving import screening
from benchmarks.tables import markdown
from buckler import params
from buckler.data import collection
from buckler.data.layout import Layout
from buckler.detection.sketch import NUMBERS
from buckler.errors import BucklerError, DataError
from buckler.modality.base import Images, Labels, Upload
from buckler.modality.picture import uploads
from buckler.modality.table import find as modality_called
from buckler.serving import traffic
from buckler.serving.predictor import Predictor
from buckler.serving.traffic import TrafficObservation
from buckler.serving.traffic_mixing import GROUP, mixed_in_groups
from buckler.trust import keys, verdict
from buckler.watch.drift import QUANTITIES, DriftParams, compare
from pipelines.stage import stage

COMMAND = "python -m benchmarks.traffic_privacy --images DIR"
SIZE = 64
FITTED = 200  # pictures that the network's screening is fitted on
STATISTICS = ("brightness", "contrast", "sharpness")  # enough to identify an unmixed picture
BANDWIDTHS = (0.05, 0.1, 0.3, 0.5, 0.8)  # of densities; the attacker gets the best
CHANGES: Mapping[str, Callable[[Images], Images]] = {**drift.CHANGES, "5 % darker": lambda pixels: pixels * 0.95}

NAMES = [name for name, quantity in QUANTITIES.items() if quantity.test == "ks"]

Numbers = NDArray[np.float64]
Rows = Sequence[TrafficObservation]


@dataclass(frozen=True, slots=True)
class Game:
    """Sizes of the attack: of ``candidates`` pictures, ``sent`` were served; repeated with several ``seeds``."""

    candidates: int
    sent: int
    seeds: int


# --- the attackers


def table(rows: Rows) -> Numbers:
    """Return the numbers of ``rows``, ``(n, quantities)``; labels and decisions are 0 or 1."""
    first = rows[0]
    numbers = [
        [
            *(float(QUANTITIES[name].read(each) or 0) for name in NAMES),  # type: ignore[arg-type]
            each.label == first.label,
            each.decision == "review",
            *each.sketch,
        ]
        for each in rows
    ]
    found = np.array(numbers, np.float64)
    found[:, NAMES.index("sharpness")] = np.log(found[:, NAMES.index("sharpness")] + 1e-7)
    return found


def nearest(candidates: Numbers, stored: Numbers, columns: Sequence[int]) -> Numbers:
    """Return for each candidate how near the nearest row is in ``columns``, standardised."""
    spread = candidates[:, columns].std(axis=0) + 1e-12
    away = (candidates[:, None, columns] - stored[None, :, columns]) / spread
    return np.asarray(-np.sqrt((away**2).mean(axis=2)).min(axis=1))


def densities(candidates: Numbers, stored: Numbers, bandwidth: float, groups: int) -> Numbers:
    """Return how much likelier each candidate's values are in each group of rows than among all candidates.

    Each column counts by itself, as mixing leaves nothing else; the sum of logarithms is ``(groups, n)``.
    """
    total = np.zeros((groups, len(candidates)))
    parts = np.array_split(np.arange(len(stored)), groups)
    for mine, theirs in zip(candidates.T, stored.T, strict=True):
        centre, reach = mine.mean(), 2.5 * mine.std()  # as mixing pulls outliers in
        width = bandwidth * mine.std() + 1e-9
        values = np.clip(mine, centre - reach, centre + reach)
        usual = _kernel(values, values, width).mean(axis=1) + 1e-9
        near = _kernel(values, theirs, width)
        for number, part in enumerate(parts):
            total[number] += np.log((near[:, part].mean(axis=1) + 0.02 * usual) / usual)
    return total


def sketches(candidates: Numbers, stored: Numbers, width: float) -> Numbers:
    """Return how much likelier each candidate's sketch is among the rows' than among all; its numbers stay together."""
    mine, theirs = candidates[:, -NUMBERS:], stored[:, -NUMBERS:]
    spread = width * mine.std(axis=0) + 1e-9

    def density(others: Numbers) -> Numbers:
        away = (((mine[:, None] - others[None]) / spread) ** 2).sum(axis=2)
        return np.asarray(np.logaddexp.reduce(-0.5 * away, axis=1))

    return density(theirs) - density(mine)


def _kernel(values: Numbers, others: Numbers, width: float) -> Numbers:
    return np.asarray(np.exp(-0.5 * ((values[:, None] - others[None]) / width) ** 2))


def area(scores: Numbers, sent: NDArray[np.bool_]) -> float:
    """Return the probability that a sent picture scores higher than another: 0.5 is chance."""
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(scores[sent], scores[~sent])
    return float(found.statistic / (sent.sum() * (~sent).sum()))


def found_ratio(scores: Numbers, sent: NDArray[np.bool_]) -> float:
    """Return the share of sent pictures among as many with the highest scores."""
    return float(sent[np.argsort(-scores, kind="stable")[: sent.sum()]].mean())


ATTACKS = (
    "nearest row, three statistics",
    "nearest row, all quantities",
    "sketches of all rows",
    "densities of all rows",
    "densities of each group",
    f"densities of one known group of {GROUP}",
)


def attacked(candidates: Numbers, order: NDArray[np.int64], stored: Numbers) -> dict[str, tuple[float, float | None]]:
    """Return for each of ``ATTACKS`` its area under the curve and the share that it finds.

    Args:
        candidates: Exact measurements of all candidates.
        order: Places of the sent pictures in them, in the order in which they were sent.
        stored: Their rows in the database; rows of a group are neighbours.
    """
    sent = np.isin(np.arange(len(candidates)), order)
    three = [NAMES.index(name) for name in STATISTICS]
    groups = max(1, len(stored) // GROUP)
    by_width = [densities(candidates, stored, width, groups) for width in BANDWIDTHS]
    together = [densities(candidates, stored, width, 1)[0] for width in BANDWIDTHS]
    scores: dict[str, list[Numbers]] = {
        ATTACKS[0]: [nearest(candidates, stored, three)],
        ATTACKS[1]: [nearest(candidates, stored, range(candidates.shape[1]))],
        ATTACKS[2]: [sketches(candidates, stored, width) for width in (*BANDWIDTHS, 1.5)],
        ATTACKS[3]: together,
        ATTACKS[4]: [np.logaddexp.reduce(each, axis=0) for each in by_width],
    }
    result: dict[str, tuple[float, float | None]] = {
        name: (max(area(one, sent) for one in each), max(found_ratio(one, sent) for one in each))
        for name, each in scores.items()
    }
    members = [np.isin(np.arange(len(candidates)), part) for part in np.array_split(order, groups)]
    known = [np.mean([area(one, member) for one, member in zip(each, members, strict=True)]) for each in by_width]
    return {**result, ATTACKS[5]: (float(max(known)), None)}


def matching(rows: Rows, game: Game) -> Table:
    """Return the table of attacks on unmixed and mixed rows."""
    everything = table(rows)
    found: dict[str, list[dict[str, tuple[float, float | None]]]] = {"before": [], "after": []}
    for seed in tqdm(range(game.seeds), desc="match", unit="draw"):
        generator = np.random.default_rng(seed)
        chosen = generator.permutation(len(rows))[: game.candidates]
        order = generator.permutation(game.candidates)[: game.sent]
        sent = [rows[place] for place in chosen[order]]
        shuffled, groups = _as_stored(sent, order, seed)
        found["before"].append(attacked(everything[chosen], shuffled, everything[chosen][shuffled]))
        found["after"].append(attacked(everything[chosen], shuffled, table(groups)))
    chance = f"{game.sent / game.candidates:.0%}"
    columns = [
        Column("attack", f"{game.sent} of {game.candidates} pictures were sent"),
        *(Column(f"{when}_area", f"area under the curve {when}", ".2f") for when in found),
        *(Column(f"{when}_found", f"share found {when} (chance: {chance})", ".0%") for when in found),
    ]
    cells = [{"attack": name, **_means(name, found)} for name in ATTACKS]
    return Table(tuple(columns), tuple(cells))


def _as_stored(sent: Rows, order: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], list[TrafficObservation]]:
    """Return the places of the sent pictures in the order of their groups, and the mixed rows."""
    # The same permutation as `mixed_in_groups` draws first.
    places = np.random.default_rng(seed).permutation(len(sent))
    return order[places], mixed_in_groups(sent, seed)


def _means(name: str, found: Mapping[str, Sequence[Mapping[str, tuple[float, float | None]]]]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for when, draws in found.items():
        cells[f"{when}_area"] = float(np.mean([each[name][0] for each in draws]))
        shares = [share for each in draws if (share := each[name][1]) is not None]
        if shares:
            cells[f"{when}_found"] = float(np.mean(shares))
    return cells


# --- drift


def power(changed: Mapping[str, Rows], cfg: DriftParams, *, reference: int, window: int, draws: int) -> Table:
    """Return in how many of ``draws`` random samples a change is detected, unmixed and mixed."""
    rows: list[dict[str, CellValue]] = []
    for name, served in changed.items():
        detected = {"before": 0, "after": 0}
        for seed in tqdm(range(draws), desc=name, unit="draw"):
            order = np.random.default_rng(seed).permutation(len(served))
            first = [changed["none"][place] for place in order[:reference]]
            second = [served[place] for place in order[reference : reference + window]]
            detected["before"] += any(each.drifted for each in compare(first, second, cfg))
            stored = (mixed_in_groups(first, cfg.seed), mixed_in_groups(second, seed))
            detected["after"] += any(each.drifted for each in compare(*stored, cfg))
        rows.append({"change": name, **{when: count / draws for when, count in detected.items()}})
    columns = (
        Column("change", f"{window} pictures, changed, against {reference}"),
        Column("before", f"detected before, of {draws} draws", ".0%"),
        Column("after", "detected after", ".0%"),
    )
    return Table(columns, tuple(rows))


# --- the pictures and the model


def served(folder: str, count: int, *, seed: int) -> dict[str, list[TrafficObservation]]:
    """Return the exact measurements of ``count`` pictures after each of ``CHANGES``, by a small network."""
    items = collection.read(Path(folder), Layout()).items(per_class=0, seed=seed)
    if len(items) < FITTED + count:
        raise DataError(f"expected at least {FITTED + count} pictures in {folder}, got {len(items)}")
    chosen = [items[place] for place in np.random.default_rng(seed).permutation(len(items))[: FITTED + count]]
    loaded = [uploads.load(each.read(), size=SIZE) for each in tqdm(chosen, desc="read pictures", unit="picture")]
    labels = tuple(sorted({each.label for each in items}))
    truth = np.array([labels.index(each.label) for each in chosen[:FITTED]], np.int64)
    with tempfile.TemporaryDirectory() as scratch:
        pixels = np.stack([each.values for each in loaded[:FITTED]])
        predictor = _predictor(Path(scratch), pixels, truth, labels, seed)
        return {
            name: [_observe(predictor, each, change) for each in tqdm(loaded[FITTED:], desc=name, unit="picture")]
            for name, change in CHANGES.items()
        }


def _observe(predictor: Predictor, upload: Upload, change: Callable[[Images], Images]) -> TrafficObservation:
    seen = replace(upload, values=np.ascontiguousarray(change(upload.values), np.float32))
    return traffic.observe(seen, predictor(seen.values), predictor.form.modality, digest=predictor.digest, moment=0.0)


def _predictor(directory: Path, pixels: Images, truth: Labels, labels: tuple[str, ...], seed: int) -> Predictor:
    """Return a signed release of the small network with a random head: its features are those of any other."""
    from buckler.models import checkpoint, export, runtime
    from buckler.models.networks.base import HeadShape
    from buckler.models.networks.tiny import TINY
    from buckler.serving import selftest

    keys.generate_key_pair(directory / "keys")
    model = directory / "release" / verdict.MODEL_DIR
    network = TINY.build(modality_called("picture").shape(SIZE), len(labels), head=HeadShape((8,)), seed=seed)
    checkpoint.save(
        network,
        checkpoint.ModelInfo(labels, (), modality_called("picture").shape(SIZE), "none", architecture="tiny"),
        model,
    )
    export.write(network, pixels[:32], model)
    runtime.RuntimeInfo(("float32",), export.ENGINE).save(model)
    screening(runtime.Runtime.load(model), TINY, pixels, truth).save(model)
    selftest.write(model)
    (directory / "release" / verdict.EVIDENCE_DIR).mkdir()
    (directory / "release" / verdict.EVIDENCE_DIR / "note.txt").write_text("made for a benchmark, not by a gate\n")
    signing.write_verdict(directory / "release", directory / "keys")
    return Predictor.load(directory / "release", keys.load_public_keys(directory / "keys" / keys.PUBLIC_KEY_FILE))


def run(folder: str, game: Game, *, draws: int, out: Path) -> None:
    """Measure, write the results and print the tables."""
    cfg = params.load("drift", DriftParams)
    changed = served(folder, game.candidates + game.sent, seed=cfg.seed)
    tables = {
        "matching": matching(changed["none"], game),
        "power": power(changed, cfg, reference=240, window=160, draws=draws),
    }
    remark = f"Groups of {GROUP} pictures; the better of {len(BANDWIDTHS)} bandwidths counts for the attacker."
    settings = {"candidates": game.candidates, "sent": game.sent, "draws": draws}
    results.new("traffic_privacy", COMMAND, tables, seeds=range(game.seeds), settings=settings, remark=remark).write(
        out
    )
    for each in tables.values():
        print(f"{markdown(each)}\n")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="class-per-folder directory")
    parser.add_argument("--candidates", type=int, default=800, help="pictures that the attacker owns")
    parser.add_argument("--sent", type=int, default=248, help="those of them that were sent")
    parser.add_argument("--seeds", type=int, default=5, help="draws of candidates")
    parser.add_argument("--draws", type=int, default=40, help="draws of samples for each change")
    results.add_options(parser)
    given = parser.parse_args()
    if not 2 * GROUP <= given.sent < given.candidates:
        raise BucklerError(f"expected --sent of at least {2 * GROUP} and below --candidates, got {given.sent}")
    game = Game(given.candidates, given.sent, given.seeds)
    run(given.images, game, draws=given.draws, out=given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
