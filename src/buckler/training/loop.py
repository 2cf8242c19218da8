"""Trains a network on clean pictures: its head on cached features of a frozen base, or all of it on pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.modality.base import Change, Images, Labels
from buckler.models.backend import keras
from buckler.models.forward import Features
from buckler.models.networks.base import HeadShape, build_head

Copies = npt.NDArray[np.floating[Any]]  # (copies, n, features): the pictures themselves, then the rotated ones
History = list[dict[str, float]]  # a row an epoch
Progress = Callable[[int, dict[str, float]], object]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length, batch size, learning rate and seed of a training."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


def rotated(images: Images, degrees: float, generator: np.random.Generator) -> Images:
    """Return each of ``images`` rotated about its centre by a uniform angle within plus or minus ``degrees``.

    Edge pixels are repeated outwards: around a lesion there is skin, not black.
    """
    turn = keras.layers.RandomRotation(
        degrees / 360, fill_mode="nearest", interpolation="bilinear", seed=int(generator.integers(2**31))
    )
    return np.clip(np.asarray(turn(images, training=True), np.float32), 0, 1)


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches; an epoch has each picture once."""

    def __init__(self, labels: Labels, classes: int, batch_size: int, seed: int) -> None:
        super().__init__()
        self._batch_size = batch_size
        self._targets = np.eye(classes, dtype=np.float32)[labels]
        self._generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return -(-len(self._targets) // self._batch_size)

    def _rows(self, index: int) -> npt.NDArray[np.int64]:
        """Return the positions of the pictures of batch ``index``."""
        return self._order[index * self._batch_size :][: self._batch_size]

    def on_epoch_end(self) -> None:
        """Shuffle the pictures for the next epoch."""
        self._order = self._generator.permutation(len(self._targets))


class FeatureBatches(_Batches):
    """Batches of cached features, read from disk when needed; each picture is one of its copies, chosen at random."""

    def __init__(self, copies: Copies, labels: Labels, classes: int, batch_size: int, seed: int) -> None:
        self._copies = copies
        super().__init__(labels, classes, batch_size, seed)

    def __getitem__(self, index: int) -> tuple[Features, npt.NDArray[np.float32]]:
        """Return features ``(batch, features)`` and one-hot targets ``(batch, classes)``."""
        rows = self._rows(index)
        return self._copies[self._copy[rows], rows].astype(np.float32), self._targets[rows]

    def on_epoch_end(self) -> None:
        """Shuffle the pictures for the next epoch and draw a copy of each."""
        super().on_epoch_end()
        self._copy = self._generator.integers(0, len(self._copies), size=(len(self._targets),))


class PictureBatches(_Batches):
    """Batches of inputs, each in a form that shows the same."""

    def __init__(self, images: Images, labels: Labels, classes: int, batch_size: int, seed: int, vary: Change) -> None:
        self._images, self._vary = images, vary
        super().__init__(labels, classes, batch_size, seed)

    def __getitem__(self, index: int) -> tuple[Images, npt.NDArray[np.float32]]:
        """Return inputs ``(batch, ...)`` and one-hot targets ``(batch, classes)``."""
        rows = self._rows(index)
        # One generator for each batch: Keras may request a batch early, or twice.
        return self._vary(self._images[rows], np.random.default_rng((self._seed, index))), self._targets[rows]

    def on_epoch_end(self) -> None:
        """Shuffle the pictures for the next epoch and draw the seed of their forms."""
        super().on_epoch_end()
        self._seed = int(self._generator.integers(2**31))


def train_head(
    copies: Copies,
    labels: Labels,
    validation: tuple[Features, Labels],
    *,
    classes: int,
    head: HeadShape,
    schedule: Schedule,
    progress: Progress | None = None,
) -> tuple[keras.Sequential, History]:
    """Return the trained head and one row an epoch: loss and accuracy on training and validation pictures.

    Args:
        copies: ``(copies, n, features)``.
        labels: Class indices, ``(n,)``.
        validation: Features ``(m, features)`` and class indices ``(m,)``, for measurement only.
        classes: Number of classes.
        head: Its shape; a standardisation is that of ``copies``.
        schedule: Epochs, batch size, Adam's learning rate and the seed of all draws.
        progress: Called after each epoch with its number and its row.
    """
    keras.utils.set_random_seed(schedule.seed)
    model = build_head(copies.shape[-1], classes, head, seed=schedule.seed)
    if head.standardised:
        model.get_layer("standardisation").adapt(copies)
    batches = FeatureBatches(copies, labels, classes, schedule.batch_size, schedule.seed)
    return model, _fit(model, batches, (validation[0].astype(np.float32), validation[1]), schedule, progress)


def train_network(
    network: keras.Model,
    training: tuple[Images, Labels],
    validation: tuple[Images, Labels],
    *,
    schedule: Schedule,
    vary: Change,
    progress: Progress | None = None,
) -> History:
    """Train all of ``network``, pixels to logits, in place; return one row an epoch, as `train_head`.

    Args:
        network: Freshly initialised.
        training: Inputs ``(n, ...)`` in 0..1 and class indices ``(n,)``; an epoch sees each once, as ``vary`` gives it.
        validation: The same, for measurement only.
        schedule: As for `train_head`.
        vary: Gives inputs in forms that show the same, as `Modality.varied`.
        progress: As for `train_head`.
    """
    keras.utils.set_random_seed(schedule.seed)
    batches = PictureBatches(*training, network.output_shape[-1], schedule.batch_size, schedule.seed, vary)
    return _fit(network, batches, validation, schedule, progress)


def _fit(
    model: keras.Model,
    batches: keras.utils.PyDataset,
    validation: tuple[npt.NDArray[np.float32], Labels],
    schedule: Schedule,
    progress: Progress | None,
) -> History:
    model.compile(
        optimizer=keras.optimizers.Adam(schedule.learning_rate),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)  # in the first traced step, it would take seconds
    inputs, truth = validation
    history: History = []

    def on_epoch_end(epoch: int, logs: dict[str, Any]) -> None:
        history.append({"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}})
        if progress:
            progress(epoch + 1, history[-1])

    model.fit(
        batches,
        validation_data=(inputs, np.eye(model.output_shape[-1], dtype=np.float32)[truth]),
        epochs=schedule.epochs,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)],
        verbose=0,
    )
    return history
