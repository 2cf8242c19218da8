"""Sends one test picture to a running service, clean and attacked by FGSM, and prints both answers side by side.

``BUCKLER_CLIENT_KEY`` is the API key, if the service requires one.

Reads   models/release/model, data/splits/test.csv and its pictures
Writes  reports/ask/{clean,attacked}.png, the two pictures sent, and answers.json
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from buckler.attacks.ball import as_8_bit
from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM
from buckler.cli.answers import CLIENT_KEY_ENV
from buckler.client import Client
from buckler.data import pictures
from buckler.evaluation.accuracy import dangerous_classes
from buckler.modality.base import Radius
from buckler.modality.picture import images
from buckler.models import checkpoint
from buckler.models.classifier import Classifier
from buckler.models.forward import probabilities
from buckler.state import documents
from pipelines.stage import stage

MODEL = Path("models/release/model")
TEST = Path("data/splits/test.csv")
OUT = Path("reports/ask")
RADII = (1, 2, 4, 8)


def run(url: str) -> None:
    """Send both pictures to ``url`` and print the answers."""
    name, true, clean, attacked, epsilon_255 = _choose()
    OUT.mkdir(parents=True, exist_ok=True)
    answers = {}
    with Client(url, key=os.environ.get(CLIENT_KEY_ENV)) as service:
        for kind, pixels in (("clean", clean), ("attacked", attacked)):
            picture = images.to_png(pixels)
            (OUT / f"{kind}.png").write_bytes(picture)
            answers[kind] = dict(service.predict(picture).content)
    documents.write_json(OUT / "answers.json", {"picture": name, "epsilon_255": epsilon_255, **answers})
    print(f"picture {name} (true label {true}); attacked by FGSM within {epsilon_255}/255 a pixel\n")
    _print_beside(answers["clean"], answers["attacked"])


def _choose() -> tuple[str, str, np.ndarray, np.ndarray, int]:
    """Return a malignant test picture, and its adversarial picture at the smallest radius that flips the label.

    The picture is classified correctly when clean. Returns its name, label, both pictures and the radius.
    """
    info = checkpoint.load_info(MODEL)
    classifier = Classifier(checkpoint.load_network(MODEL))
    test = pictures.load(TEST, info.labels, size=info.image_size).subset(64, seed=0)
    logits = classifier.logits(test.images)
    right = logits.argmax(axis=1) == test.truth
    dangerous = dangerous_classes(info.labels, info.dangerous)[test.truth]
    # The most confident answers first: a flip of an uncertain answer shows little.
    order = np.lexsort((-probabilities(logits).max(axis=1), ~(right & dangerous)))[:8]
    originals, truth = test.images[order], test.truth[order]
    grid = FGSM().each(classifier, Batch(originals, truth), [Radius(radius / 255) for radius in RADII])
    for radius, adversarial in zip(RADII, grid, strict=True):
        sent = as_8_bit(adversarial, originals, Radius(radius / 255))
        flipped = np.flatnonzero((classifier.logits(sent).argmax(axis=1) != truth) & right[order])
        if len(flipped):
            break
    place = int(flipped[0]) if len(flipped) else 0  # without a flip, the largest radius is shown
    return test.ids[order[place]], info.labels[truth[place]], originals[place], sent[place], radius


def _print_beside(clean: dict[str, Any], attacked: dict[str, Any]) -> None:
    left, right = (json.dumps(answer, indent=2).splitlines() for answer in (clean, attacked))
    rows = max(len(left), len(right))
    print(f"{'clean':<58}attacked")
    for a, b in zip(left + [""] * (rows - len(left)), right + [""] * (rows - len(right)), strict=True):
        print(f"{_fit(a):<58}{_fit(b)}")


def _fit(line: str, width: int = 56) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    run(parser.parse_args().url)


if __name__ == "__main__":
    stage(main)
