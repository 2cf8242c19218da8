"""Measures which changes of the test pictures the job ``drift`` detects, compared with the calibration pictures.

Reads   the release and the splits of the project in the current directory; run it after `dvc repro`
Writes  docs/results/drift.json
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks import results
from benchmarks.results import Column, Table
from benchmarks.tables import markdown
from buckler import params
from buckler.data import manifest
from buckler.modality.base import Images, Upload
from buckler.modality.picture import uploads
from buckler.serving import traffic
from buckler.serving.predictor import Predictor
from buckler.serving.traffic import TrafficObservation
from buckler.serving.traffic_mixing import mixed_in_groups
from buckler.trust import keys
from buckler.trust.opened_files import opened
from buckler.trust.verdict import MODEL_DIR, open_release
from buckler.watch.drift import DriftParams, compare
from buckler.watch.jobs.drift import SPLITS, measure

COMMAND = "python -m benchmarks.drift"
RELEASE = Path("models/release")
CLEAN_DRAWS = 60


def blurred(pixels: Images) -> Images:
    """Return the mean over 3 x 3 pixels."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = pixels.shape[:2]
    return np.asarray(sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9)


CHANGES: Mapping[str, Callable[[Images], Images]] = {
    "none": lambda pixels: pixels,
    "10 % darker": lambda pixels: pixels * 0.9,
    "20 % darker": lambda pixels: pixels * 0.8,
    "red +8 %, blue -10 %": lambda pixels: np.clip(pixels * [1.08, 1, 0.9], 0, 1),
    "3 x 3 box blur": blurred,
}


def windows(predictor: Predictor, served: Sequence[Upload]) -> Iterator[tuple[str, list[TrafficObservation]]]:
    """Yield each change and the observations that the service would store of ``served`` after the change."""
    for name, change in CHANGES.items():
        changed = [replace(each, values=np.ascontiguousarray(change(each.values), np.float32)) for each in served]
        yield (
            name,
            [
                traffic.observe(each, predictor(each.values), predictor.form.modality, digest=predictor.digest)
                for each in tqdm(changed, desc=name, unit="picture")
            ],
        )


def stored(
    reference: Sequence[TrafficObservation], window: Sequence[TrafficObservation], seed: int
) -> tuple[list[TrafficObservation], list[TrafficObservation]]:
    """Return both samples as the job compares them: mixed, each by itself."""
    return mixed_in_groups(reference, seed), mixed_in_groups(window, seed + 1)


def false_alarms(reference: Sequence[TrafficObservation], clean: Sequence[TrafficObservation], cfg: DriftParams) -> int:
    """Return how many of ``CLEAN_DRAWS`` pairs of random clean samples drift."""
    generator, everything = np.random.default_rng(cfg.seed), [*reference, *clean]
    alarms = 0
    for _ in range(CLEAN_DRAWS):
        drawn = [everything[place] for place in generator.permutation(len(everything))]
        seed = int(generator.integers(2**32))
        found = compare(*stored(drawn[: len(reference)], drawn[len(reference) :], seed), cfg)
        alarms += any(each.drifted for each in found)
    return alarms


def run(count: int, out: Path) -> None:
    """Measure the project in the current directory, write the results and print the table."""
    cfg = params.load("drift", DriftParams)
    with opened(RELEASE) as files:
        verdict = open_release(files, keys.load_public_keys())
        predictor = Predictor.of(files / MODEL_DIR, verdict)
    paths = manifest.read(SPLITS / "test.csv")["path"].sample(frac=1, random_state=cfg.seed)[:count]
    served = [uploads.load(Path(path), size=predictor.form.shape[0]) for path in paths]
    reference, found = measure(predictor), dict(windows(predictor, served))
    drifted = {
        name: ", ".join(each.quantity for each in compare(*stored(reference, window, cfg.seed), cfg) if each.drifted)
        for name, window in found.items()
    }
    table = Table(
        (
            Column("change", f"{len(served)} test pictures, changed"),
            Column("drifted", f"drifted from {len(reference)} calibration pictures"),
        ),
        tuple({"change": name, "drifted": quantities or "nothing"} for name, quantities in drifted.items()),
    )
    alarms = false_alarms(reference, found["none"], cfg)
    remark = f"Clean samples drawn again: {alarms} of {CLEAN_DRAWS} drift. Computed in {predictor.precision}."
    results.new("drift", COMMAND, {"changes": table}, seeds=[cfg.seed], remark=remark).write(out)
    print(f"{markdown(table)}\n\n{remark}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=160, help="test pictures in a window")
    results.add_options(parser)
    given = parser.parse_args()
    run(given.pictures, given.out or results.DIRECTORY)


if __name__ == "__main__":
    main()
