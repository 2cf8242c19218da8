"""Prints what the job ``drift`` notices: clean test pictures and changed ones, held against the calibration pictures.

Reads the release and the splits of the project in the current directory; run it after `dvc repro`.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import params
from buckler.compute.machine import machine
from buckler.data import manifest
from buckler.modality.base import Images
from buckler.modality.picture import uploads
from buckler.modality.picture.uploads import Upload
from buckler.serving import traffic
from buckler.serving.predictor import Predictor
from buckler.serving.traffic import Observation
from buckler.trust import keys
from buckler.trust.verdict import MODEL_DIR, open_release
from buckler.watch.drift import DriftParams, compare
from buckler.watch.jobs.drift import SPLITS, measure

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


def windows(predictor: Predictor, served: Sequence[Upload]) -> Iterator[tuple[str, list[Observation]]]:
    """Yield each change and what the service would remember of ``served`` after it."""
    for name, change in CHANGES.items():
        changed = [replace(each, pixels=np.ascontiguousarray(change(each.pixels), np.float32)) for each in served]
        yield (
            name,
            [
                traffic.observe(each, predictor(each.pixels), digest=predictor.digest)
                for each in tqdm(changed, desc=name, unit="picture")
            ],
        )


def false_alarms(reference: Sequence[Observation], clean: Sequence[Observation], cfg: DriftParams) -> int:
    """Return in how many of ``CLEAN_DRAWS`` something drifts between two clean samples of the same pictures."""
    generator, everything = np.random.default_rng(cfg.seed), [*reference, *clean]
    alarms = 0
    for _ in range(CLEAN_DRAWS):
        drawn = [everything[place] for place in generator.permutation(len(everything))]
        found = compare(drawn[: len(reference)], drawn[len(reference) :], cfg)
        alarms += any(each.drifted for each in found)
    return alarms


def main() -> None:
    """Print the table of the project in the current directory, and where it was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=160, help="of the test split, in a window")
    count, cfg = parser.parse_args().pictures, params.load("drift", DriftParams)
    verdict = open_release(RELEASE, keys.load_public_key())
    predictor = Predictor.of(RELEASE / MODEL_DIR, verdict)
    paths = manifest.read(SPLITS / "test.csv")["path"].sample(frac=1, random_state=cfg.seed)[:count]
    served = [uploads.load(Path(path), size=predictor.image_size) for path in paths]
    reference, found = measure(predictor), dict(windows(predictor, served))
    print(f"| {len(served)} test pictures, changed | drifted from {len(reference)} for calibration |\n|---|---|")
    for name, window in found.items():
        drifted = [each.quantity for each in compare(reference, window, cfg) if each.drifted]
        print(f"| {name} | {', '.join(drifted) or 'nothing'} |")
    print(f"\nclean samples drawn anew: {false_alarms(reference, found['none'], cfg)} of {CLEAN_DRAWS} drift")
    print(f"computed in {predictor.precision}; machine: {machine()}")


if __name__ == "__main__":
    main()
