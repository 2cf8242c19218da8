"""Stage ``train``: the head on cached features, joined with the base into one classifier, hardened if asked to.

Reads   data/features/base/*.npy, data/splits/*.csv and, to harden, the pictures they list
Writes  models/classifier/{classifier.keras,model.json}, reports/training/history.csv,
        models/surrogate/: undefended, same base and pictures, another head: what an attacker could train
Keeps   .buckler/training/state.npz while hardening: an interrupted training goes on from its last epoch
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import params
from buckler.compute.machine import crafting_precision
from buckler.data import manifest, pictures
from buckler.models import checkpoint
from buckler.models.backend import keras
from buckler.models.networks import vgg
from buckler.models.randomised import Randomisation, RandomisedInput
from buckler.state import documents, paths
from buckler.training.adversarial import Examples, History, Recipe, harden
from buckler.training.loop import Schedule, train_head
from pipelines.settings import DataParams, TrainParams
from pipelines.stage import stage

SPLITS = Path("data/splits")
FEATURES = Path("data/features")
CLASSIFIER = Path("models/classifier")
SURROGATE = Path("models/surrogate")
REPORTS = Path("reports")


def run(cfg: TrainParams, data: DataParams, recipe: Recipe, randomisation: Randomisation) -> None:
    """Train, defend as ``cfg.defence`` says, and save the classifier."""
    labels = pictures.labels_of(SPLITS / "train.csv")
    info = checkpoint.ModelInfo(
        labels=labels,
        malignant=tuple(label for label in labels if label in data.malignant),
        image_size=data.image_size,
        data_version=pictures.version(SPLITS),
        defence=cfg.defence,
    )
    other, _ = _train_head(replace(cfg, seed=cfg.seed + 1), labels, "train the surrogate")
    surrogate = vgg.join(vgg.build_base(data.image_size, cfg.weights, seed=cfg.seed), other)
    checkpoint.save(surrogate, replace(info, defence="none"), SURROGATE)
    head, history = _train_head(cfg, labels, "train")
    randomiser = RandomisedInput(randomisation.smallest, randomisation.noise_255, cfg.seed, name="randomised")
    before = randomiser if cfg.defence == "randomised" else None
    network = vgg.join(vgg.build_base(data.image_size, cfg.weights, seed=cfg.seed, before=before), head)
    if cfg.defence == "adversarial":
        history = _harden(network, recipe, cfg, data, labels)
    checkpoint.save(network, info, CLASSIFIER)
    documents.write_csv(REPORTS / "training/history.csv", history)


def _train_head(cfg: TrainParams, labels: tuple[str, ...], title: str) -> tuple[keras.Sequential, History]:
    truth, validation_truth = (_indices(SPLITS / f"{name}.csv", labels) for name in ("train", "calibration"))
    with tqdm(total=cfg.epochs, unit="epoch", desc=title) as bar:

        def progress(epoch: int, row: dict[str, float]) -> None:
            bar.update()
            bar.set_postfix(accuracy=f"{row['accuracy']:.3f}", validation=f"{row['val_accuracy']:.3f}")

        return train_head(
            np.load(FEATURES / "base/train.npy", mmap_mode="r"),
            truth,
            (np.load(FEATURES / "base/validation.npy"), validation_truth),
            classes=len(labels),
            head=vgg.Head(cfg.hidden, cfg.dropout),
            schedule=Schedule(cfg.epochs, cfg.batch_size, cfg.learning_rate, cfg.seed),
            progress=progress,
        )


def _harden(
    network: keras.Model, recipe: Recipe, cfg: TrainParams, data: DataParams, labels: tuple[str, ...]
) -> History:
    """Harden ``network`` in place."""
    training, validation = (
        pictures.load(SPLITS / f"{name}.csv", labels, size=data.image_size, description=f"decode {name}")
        for name in ("train", "calibration")
    )
    precision = crafting_precision()
    steps = recipe.epochs * (len(training.ids) // recipe.batch_size)
    with tqdm(total=steps, unit="batch", desc=f"harden in {precision}") as bar:

        def progress(epoch: int, row: dict[str, float]) -> None:
            bar.set_postfix(validation=f"{row['val_accuracy']:.3f}", attacked=f"{row['val_robust_accuracy']:.3f}")

        return harden(
            network,
            Examples(training.images, training.truth),
            Examples(validation.images, validation.truth),
            recipe,
            precision=precision,
            malignant=[place for place, label in enumerate(labels) if label in data.malignant],
            seed=cfg.seed,
            state=paths.TRAINING_STATE,
            on_batch=bar.update,
            on_epoch=progress,
        )


def _indices(split: Path, labels: tuple[str, ...]) -> np.ndarray:
    return np.array([labels.index(label) for label in manifest.read(split)["label"]], np.int64)


def main() -> None:
    """Run the stage on params.yaml."""
    run(
        params.load("train", TrainParams),
        params.load("data", DataParams),
        params.load("harden", Recipe),
        params.load("randomise", Randomisation),
    )


if __name__ == "__main__":
    stage(main)
