"""Trains the head on features of the frozen base, computed once a picture and augmented copy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.modality.base import Images, Labels
from buckler.models.backend import keras
from buckler.models.forward import Features
from buckler.models.networks import vgg

Copies = npt.NDArray[np.float16]  # (copies, n, features): the pictures themselves, then the rotated ones


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast the head learns."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


def rotated(images: Images, degrees: float, generator: np.random.Generator) -> Images:
    """Return each of ``images`` turned about its middle by a uniform angle within plus or minus ``degrees``.

    Edges repeat outwards, as a camera would have seen more skin and not black.
    """
    turn = keras.layers.RandomRotation(
        degrees / 360, fill_mode="nearest", interpolation="bilinear", seed=int(generator.integers(2**31))
    )
    return np.clip(np.asarray(turn(images, training=True), np.float32), 0, 1)


class FeatureBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches of cached features, read from disk as they are needed.

    An epoch has each picture once, as one of its copies at random: what augmenting anew each epoch would do.
    """

    def __init__(self, copies: Copies, labels: Labels, classes: int, batch_size: int, seed: int) -> None:
        super().__init__()
        self._copies, self._batch_size = copies, batch_size
        self._targets = np.eye(classes, dtype=np.float32)[labels]
        self._generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Features, npt.NDArray[np.float32]]:
        """Return features ``(batch, features)`` and one-hot targets ``(batch, classes)``."""
        pictures = self._order[index * self._batch_size :][: self._batch_size]
        return self._copies[self._copy[pictures], pictures].astype(np.float32), self._targets[pictures]

    def on_epoch_end(self) -> None:
        """Shuffle the pictures for the next epoch and draw which copy of each is seen."""
        copies, pictures = self._copies.shape[:2]
        self._order = self._generator.permutation(pictures)
        self._copy = self._generator.integers(0, copies, size=(pictures,))


def train_head(
    copies: Copies,
    labels: Labels,
    validation: tuple[Features, Labels],
    *,
    classes: int,
    head: vgg.Head,
    schedule: Schedule,
    progress: Callable[[int, dict[str, float]], object] | None = None,
) -> tuple[keras.Sequential, list[dict[str, float]]]:
    """Return the trained head and one row an epoch: loss and accuracy on training and validation pictures.

    Args:
        copies: ``(copies, n, features)``.
        labels: Class indices, ``(n,)``.
        validation: Features ``(m, features)`` and class indices ``(m,)``, only looked at.
        classes: Number of classes.
        head: Its shape.
        schedule: Epochs, batch size, Adam's learning rate and the seed of all draws.
        progress: Called after each epoch with its number and its row.
    """
    keras.utils.set_random_seed(schedule.seed)
    model = vgg.build_head(copies.shape[-1], classes, head, seed=schedule.seed)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule.learning_rate),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    features, truth = validation
    history: list[dict[str, float]] = []

    def on_epoch_end(epoch: int, logs: dict[str, Any]) -> None:
        history.append({"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}})
        if progress:
            progress(epoch + 1, history[-1])

    model.fit(
        FeatureBatches(copies, labels, classes, schedule.batch_size, schedule.seed),
        validation_data=(features.astype(np.float32), np.eye(classes, dtype=np.float32)[truth]),
        epochs=schedule.epochs,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)],
        verbose=0,
    )
    return model, history
