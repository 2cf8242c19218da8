"""Stage ``features``: features of a frozen base, one pass for each picture and rotated copy, for the stage ``train``.

Pictures and copies pass the restoration step ``data.restore`` first.

Reads   data/splits/{train,calibration}.csv and the pictures they list, data/weights.json and the weights it identifies
Writes  data/features/base/train.npy        (copies + 1, n, features) float16
        data/features/base/validation.npy   (m, features) float16

A network without a frozen base trains on pixels, and one from a file is not trained: the folder stays empty.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from tqdm import tqdm

from buckler import params
from buckler.compute.machine import crafting_precision
from buckler.data import pictures
from buckler.modality.base import Images
from buckler.models import initial
from buckler.models.classifier import Classifier
from buckler.models.networks import table
from buckler.models.networks.base import flatten
from buckler.params import Count, CountOrAll, Number, Seed
from buckler.training.loop import rotated
from pipelines.settings import DataParams, TrainParams
from pipelines.stage import stage

SPLITS = Path("data/splits")
WEIGHTS = Path("data/weights.json")
OUT = Path("data/features/base")


@dataclass(frozen=True, slots=True)
class FeaturesParams:
    """Section ``features`` of params.yaml."""

    copies: Annotated[CountOrAll, Field(le=1000)]
    rotation_degrees: Annotated[Number, Field(le=180)]
    batch_size: Count
    seed: Seed


def run(cfg: FeaturesParams, data: DataParams, train: TrainParams, out: Path = OUT) -> None:
    """Write the features of training pictures, their rotated copies and the validation pictures."""
    out.mkdir(parents=True, exist_ok=True)
    if train.file or not table.find(train.network).frozen_base:
        return
    network = table.find(train.network)
    labels = pictures.labels_of(SPLITS / "train.csv")
    training, validation = (
        pictures.load(SPLITS / f"{name}.csv", labels, data.form, description=f"decode {name}")
        for name in ("train", "calibration")
    )
    start = initial.load(WEIGHTS)
    weights, step = start.confirm(train.weights, train.network), start.step(data.restore)
    restored: Callable[[Images], Images] = step or (lambda images: images)
    base = flatten(network.base(data.form.shape, weights=weights, seed=train.seed))
    extractor = Classifier(base, crafting_precision(), batch_size=cfg.batch_size)
    shape = (cfg.copies + 1, len(training.ids), int(base.output_shape[-1]))
    copies = np.lib.format.open_memmap(out / "train.npy", mode="w+", dtype=np.float16, shape=shape)
    with (out / "train.npy").open("r+b") as file:  # a disk that fills up later would kill the process without a word
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    total = (cfg.copies + 1) * len(training.ids) + len(validation.ids)
    generator = np.random.default_rng(cfg.seed)
    with tqdm(total=total, unit="picture", desc=f"features in {extractor.precision}") as bar:
        copies[0] = extractor.forward(restored(training.images), bar.update).logits
        for copy in range(1, cfg.copies + 1):
            turned = rotated(training.images, cfg.rotation_degrees, generator)
            copies[copy] = extractor.forward(restored(turned), bar.update).logits
        found = extractor.forward(restored(validation.images), bar.update).logits
        np.save(out / "validation.npy", found.astype(np.float16))
    copies.flush()


def main() -> None:
    """Run the stage on params.yaml."""
    run(
        params.load("features", FeaturesParams),
        params.load("data", DataParams),
        params.load("train", TrainParams),
    )


if __name__ == "__main__":
    stage(main)
