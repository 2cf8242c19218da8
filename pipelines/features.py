"""Stage ``features``: one pass of the frozen base a picture and rotated copy, so that training need not repeat it.

Reads   data/splits/{train,calibration}.csv and the pictures they list
Writes  data/features/base/train.npy        (copies + 1, n, features) float16
        data/features/base/validation.npy   (m, features) float16
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import params
from buckler.compute.machine import crafting_precision
from buckler.data import pictures
from buckler.models.classifier import Classifier
from buckler.models.networks import vgg
from buckler.training.loop import rotated
from pipelines.settings import DataParams, TrainParams
from pipelines.stage import stage

SPLITS = Path("data/splits")
OUT = Path("data/features/base")


@dataclass(frozen=True, slots=True)
class FeaturesParams:
    """Section ``features`` of params.yaml."""

    copies: int
    rotation_degrees: float
    batch_size: int
    seed: int


def run(cfg: FeaturesParams, data: DataParams, train: TrainParams, out: Path = OUT) -> None:
    """Write the features of training pictures, their rotated copies and the validation pictures."""
    labels = pictures.labels_of(SPLITS / "train.csv")
    training, validation = (
        pictures.load(SPLITS / f"{name}.csv", labels, size=data.image_size, description=f"decode {name}")
        for name in ("train", "calibration")
    )
    base = vgg.flat_base(vgg.build_base(data.image_size, train.weights, seed=train.seed))
    extractor = Classifier(base, crafting_precision(), batch_size=cfg.batch_size)
    out.mkdir(parents=True, exist_ok=True)
    shape = (cfg.copies + 1, len(training.ids), int(base.output_shape[-1]))
    copies = np.lib.format.open_memmap(out / "train.npy", mode="w+", dtype=np.float16, shape=shape)
    total = (cfg.copies + 1) * len(training.ids) + len(validation.ids)
    generator = np.random.default_rng(cfg.seed)
    with tqdm(total=total, unit="picture", desc=f"features in {extractor.precision}") as bar:
        copies[0] = extractor.forward(training.images, bar.update).logits
        for copy in range(1, cfg.copies + 1):
            turned = rotated(training.images, cfg.rotation_degrees, generator)
            copies[copy] = extractor.forward(turned, bar.update).logits
        np.save(out / "validation.npy", extractor.forward(validation.images, bar.update).logits.astype(np.float16))
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
