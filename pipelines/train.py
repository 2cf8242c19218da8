"""Stage ``train``: trains the classifier, with its defence, and a surrogate of it.

A network with a frozen base (VGG-19) learns its head on cached features; any other (tiny) learns on pixels.

Reads   data/features/base/*.npy, data/splits/*.csv and, to train on pixels or to harden, the pictures they list
Writes  models/classifier/{classifier.keras,model.json}, reports/training/history.csv,
        models/surrogate/: the undefended network trained on the same pictures from another seed, as an attacker could
Keeps   .buckler/training/state.npz while hardening: an interrupted training resumes after its last epoch
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
from buckler.models.networks import table
from buckler.models.networks.base import Architecture, HeadShape, join
from buckler.models.randomised import Randomisation, RandomisedInput
from buckler.state import documents, paths
from buckler.training.adversarial import Examples, Recipe, harden
from buckler.training.loop import History, Schedule, train_head, train_network
from pipelines.settings import DataParams, TrainParams
from pipelines.stage import stage

SPLITS = Path("data/splits")
FEATURES = Path("data/features")
CLASSIFIER = Path("models/classifier")
SURROGATE = Path("models/surrogate")
REPORTS = Path("reports")


def run(cfg: TrainParams, data: DataParams, recipe: Recipe, randomisation: Randomisation) -> None:
    """Train the classifier with its defence and the surrogate, and save both."""
    network = table.find(cfg.network)
    labels = pictures.labels_of(SPLITS / "train.csv")
    info = checkpoint.ModelInfo(
        labels=labels,
        dangerous=tuple(label for label in labels if label in data.malignant),
        image_size=data.image_size,
        data_version=pictures.version(SPLITS),
        defence=cfg.defence,
        architecture=network.name,
    )
    train = _train_head if network.frozen_base else _train_whole
    surrogate, _ = train(network, cfg, data, labels, seed=cfg.seed + 1, title="train the surrogate")
    checkpoint.save(surrogate, replace(info, defence="none"), SURROGATE)
    randomiser = RandomisedInput(randomisation.smallest, randomisation.noise_255, cfg.seed, name="randomised")
    before = randomiser if cfg.defence == "randomised" else None
    model, history = train(network, cfg, data, labels, seed=cfg.seed, title="train", before=before)
    if cfg.defence == "adversarial":
        history = _harden(model, recipe, cfg, data, labels)
    checkpoint.save(model, info, CLASSIFIER)
    documents.write_csv(REPORTS / "training/history.csv", history)


def _train_head(
    network: Architecture,
    cfg: TrainParams,
    data: DataParams,
    labels: tuple[str, ...],
    *,
    seed: int,
    title: str,
    before: keras.layers.Layer | None = None,
) -> tuple[keras.Model, History]:
    """Train a head on the cached features of the base that ``cfg.seed`` gives, and join both behind ``before``."""
    truth, validation_truth = (_indices(SPLITS / f"{name}.csv", labels) for name in ("train", "calibration"))
    with _Progress(cfg.epochs, title) as progress:
        head, history = train_head(
            np.load(FEATURES / "base/train.npy", mmap_mode="r"),
            truth,
            (np.load(FEATURES / "base/validation.npy"), validation_truth),
            classes=len(labels),
            head=HeadShape(cfg.hidden, cfg.dropout),
            schedule=Schedule(cfg.epochs, cfg.batch_size, cfg.learning_rate, seed),
            progress=progress,
        )
    return join(network.base(data.image_size, weights=cfg.weights, seed=cfg.seed, before=before), head), history


def _train_whole(
    network: Architecture,
    cfg: TrainParams,
    data: DataParams,
    labels: tuple[str, ...],
    *,
    seed: int,
    title: str,
    before: keras.layers.Layer | None = None,
) -> tuple[keras.Model, History]:
    """Train base and head on pixels; ``before`` is put in front of them afterwards."""

    def build(before: keras.layers.Layer | None = None) -> keras.Model:
        head = HeadShape(cfg.hidden, cfg.dropout)
        return network.build(data.image_size, len(labels), head=head, weights=cfg.weights, seed=seed, before=before)

    training, validation = _pictures(data, labels)
    model = build()
    with _Progress(cfg.epochs, title) as progress:
        history = train_network(
            model,
            (training.images, training.truth),
            (validation.images, validation.truth),
            schedule=Schedule(cfg.epochs, cfg.batch_size, cfg.learning_rate, seed),
            progress=progress,
        )
    if before is None:
        return model, history
    behind = build(before)
    behind.set_weights(model.get_weights())
    return behind, history


class _Progress:
    """A progress bar that is called after each epoch."""

    def __init__(self, epochs: int, title: str) -> None:
        self._bar = tqdm(total=epochs, unit="epoch", desc=title)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, epoch: int, row: dict[str, float]) -> None:
        self._bar.update()
        self._bar.set_postfix(accuracy=f"{row['accuracy']:.3f}", validation=f"{row['val_accuracy']:.3f}")


def _harden(
    network: keras.Model, recipe: Recipe, cfg: TrainParams, data: DataParams, labels: tuple[str, ...]
) -> History:
    """Harden ``network`` in place."""
    training, validation = _pictures(data, labels)
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
            dangerous=[place for place, label in enumerate(labels) if label in data.malignant],
            seed=cfg.seed,
            state=paths.TRAINING_STATE,
            on_batch=bar.update,
            on_epoch=progress,
        )


def _pictures(data: DataParams, labels: tuple[str, ...]) -> tuple[pictures.Pictures, pictures.Pictures]:
    """Return training and validation pictures."""
    training, validation = (
        pictures.load(SPLITS / f"{name}.csv", labels, size=data.image_size, description=f"decode {name}")
        for name in ("train", "calibration")
    )
    return training, validation


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
