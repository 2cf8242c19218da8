"""Stage ``train``: trains the classifier, with its defence, and a surrogate of it.

A network with a frozen base (VGG-19) learns its head on cached features; any other (small) learns on pixels. A network
from a file (``train.network: file:PATH``) is taken as it is; the network ``small`` is trained as its surrogate.
All pictures pass the restoration step ``data.restore`` first; the hardening's attacks are behind it.

Reads   data/features/base/*.npy, data/splits/*.csv and, to train on pixels or to harden, the pictures they list,
        data/weights.json and the weights or the network it identifies
Writes  models/classifier/{classifier.keras,model.json}, reports/training/history.csv,
        models/surrogate/: the undefended network trained on the same pictures from another seed, as an attacker could
Keeps   .buckler/training/state.npz while hardening: an interrupted training resumes after its last epoch
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import findings, params
from buckler.compute.machine import crafting_precision
from buckler.data import manifest, pictures
from buckler.modality.picture.restoration.base import Step
from buckler.models import checkpoint, initial
from buckler.models.backend import keras
from buckler.models.classifier import Classifier
from buckler.models.forward import probabilities
from buckler.models.networks import file, table
from buckler.models.networks.base import Architecture, HeadShape, join
from buckler.models.networks.small import SMALL
from buckler.models.randomised import Randomisation, RandomisedInput
from buckler.state import documents, paths
from buckler.training.adversarial import Examples, Recipe, harden
from buckler.training.loop import History, Schedule, train_head, train_network
from pipelines.settings import DataParams, TrainParams
from pipelines.stage import stage

SPLITS = Path("data/splits")
FEATURES = Path("data/features")
WEIGHTS = Path("data/weights.json")
CLASSIFIER = Path("models/classifier")
SURROGATE = Path("models/surrogate")
REPORTS = Path("reports")
SMALLEST_SHARE = 1e-7  # of the loss, as in Keras


def run(cfg: TrainParams, data: DataParams, recipe: Recipe, randomisation: Randomisation) -> None:
    """Train the classifier with its defence and the surrogate, and save both."""
    labels = pictures.labels_of(SPLITS / "train.csv")
    info = checkpoint.ModelInfo(
        labels=labels,
        dangerous=data.dangerous(labels),
        shape=data.form.shape,
        data_version=pictures.version(SPLITS),
        defence=cfg.defence,
        architecture=file.NAME if cfg.file else cfg.network,
        initial_weights=initial.load(WEIGHTS).identity,
        data_source=data.source,
        modality=data.modality,
        findings=findings.of(labels) if data.several_labels else (),
        restore=data.step,
    )
    start, step = initial.load(WEIGHTS).confirm(cfg.weights, cfg.network), _step(data)
    weights, taught = (initial.NONE, SMALL) if cfg.file else (start, table.find(cfg.network))
    train = _train_head if taught.frozen_base else _train_whole
    surrogate, _ = train(_Training(taught, cfg, data, labels, weights, cfg.seed + 1, "train the surrogate"))
    of_surrogate = replace(info, defence="none", architecture=taught.name)
    if cfg.file:
        of_surrogate = replace(of_surrogate, initial_weights=initial.NONE)
    checkpoint.save(surrogate, of_surrogate, SURROGATE, step)
    randomiser = RandomisedInput(randomisation.smallest, randomisation.noise_255, cfg.seed, name="randomised")
    before = randomiser if cfg.defence == "randomised" else None
    if cfg.file:
        model, history = _take_in(cfg.file, cfg, data, labels, before)
    else:
        model, history = train(_Training(taught, cfg, data, labels, weights, cfg.seed, "train", before))
    if cfg.defence == "adversarial":
        history = _harden(model, recipe, cfg, data, labels)
    checkpoint.save(model, replace(info, heat_maps=table.layout_of(model).pooling is not None), CLASSIFIER, step)
    documents.write_csv(REPORTS / "training/history.csv", history)


@dataclass(frozen=True, slots=True)
class _Training:
    """One training on clean pictures.

    Attributes:
        weights: ``none``, or what `initial.InitialWeights.confirm` returned.
        title: Of its progress bar.
        before: Layer in front of the trained network; it takes no part in the training.
    """

    architecture: Architecture
    cfg: TrainParams
    data: DataParams
    labels: tuple[str, ...]
    weights: str
    seed: int
    title: str
    before: keras.layers.Layer | None = None

    @property
    def head(self) -> HeadShape:
        cfg = self.cfg
        return HeadShape(cfg.hidden, cfg.dropout, cfg.weight_decay, self.architecture.standardised)

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.cfg.epochs, self.cfg.batch_size, self.cfg.learning_rate, self.seed)


def _train_head(training: _Training) -> tuple[keras.Model, History]:
    """Train a head on the cached features of the frozen base, and join both."""
    cfg, labels = training.cfg, training.labels
    truth, validation_truth = (_indices(SPLITS / f"{name}.csv", labels) for name in ("train", "calibration"))
    with _Progress(cfg.epochs, training.title) as progress:
        head, history = train_head(
            np.load(FEATURES / "base/train.npy", mmap_mode="r"),
            truth,
            (np.load(FEATURES / "base/validation.npy"), validation_truth),
            classes=len(labels),
            head=training.head,
            schedule=training.schedule,
            progress=progress,
        )
    # The cached features are those of the base that cfg.seed initialises, whatever the seed of this training.
    base = training.architecture.base(
        training.data.form.shape, weights=training.weights, seed=cfg.seed, before=training.before
    )
    return join(base, head), history


def _train_whole(training: _Training) -> tuple[keras.Model, History]:
    """Train base and head on pixels."""
    model = _build(training)
    seen, validation = _pictures(training.data, training.labels)
    with _Progress(training.cfg.epochs, training.title) as progress:
        history = train_network(
            model,
            (seen.images, seen.truth),
            (validation.images, validation.truth),
            schedule=training.schedule,
            vary=training.data.form.modality.varied,
            progress=progress,
        )
    if training.before is None:
        return model, history
    behind = _build(training, training.before)
    behind.set_weights(model.get_weights())
    return behind, history


def _take_in(
    path: Path, cfg: TrainParams, data: DataParams, labels: tuple[str, ...], before: keras.layers.Layer | None
) -> tuple[keras.Model, History]:
    """Return the network in ``path`` as it is, and how it does on the pictures, as epoch 0."""
    shape = data.form.shape
    loaded = file.load(path, shape, classes=len(labels), taps=cfg.taps, before=before)
    for note in loaded.notes:
        print(f"{path}: {note}")
    training, validation = _pictures(data, labels)
    model = Classifier(loaded.network, crafting_precision(), batch_size=cfg.batch_size)
    row: dict[str, float] = {"epoch": 0}
    for prefix, seen in (("", training), ("val_", validation)):
        logits = model.logits(seen.images)
        own = probabilities(logits)[np.arange(len(seen.truth)), seen.truth]
        row[f"{prefix}loss"] = float(-np.log(np.maximum(own, SMALLEST_SHARE)).mean())
        row[f"{prefix}accuracy"] = float((logits.argmax(axis=1) == seen.truth).mean())
    return loaded.network, [row]


def _build(training: _Training, before: keras.layers.Layer | None = None) -> keras.Model:
    return training.architecture.build(
        training.data.form.shape,
        len(training.labels),
        head=training.head,
        weights=training.weights,
        seed=training.seed,
        before=before,
    )


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
            dangerous=[labels.index(label) for label in data.dangerous(labels)],
            seed=cfg.seed,
            vary=data.form.modality.varied,
            unit=data.form.modality.unit,
            state=paths.TRAINING_STATE,
            on_batch=bar.update,
            on_epoch=progress,
        )


def _pictures(data: DataParams, labels: tuple[str, ...]) -> tuple[pictures.Pictures, pictures.Pictures]:
    """Return training and validation pictures after the restoration step."""
    step = _step(data)
    training, validation = (
        pictures.load(SPLITS / f"{name}.csv", labels, data.form, description=f"decode {name}")
        for name in ("train", "calibration")
    )
    if step:
        training = training.changed(step, description="restore train")
        validation = validation.changed(step, description="restore calibration")
    return training, validation


def _step(data: DataParams) -> Step | None:
    return initial.load(WEIGHTS).step(data.restore)


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
