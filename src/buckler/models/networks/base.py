"""Description of a network architecture, and the parts that all architectures share.

An architecture is one file that defines one `Architecture`, and an entry in `buckler.models.networks.table`. All code
that depends on layers (training, features, detectors, export, heat maps, hardening) reads that description.

Every network is a base and a head. The base normalises pixels in 0..1 and maps them to pooled maps; the head maps the
flattened maps to logits.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from buckler.errors import ModelError
from buckler.modality.picture.images import CHANNELS
from buckler.models.backend import keras
from buckler.models.finite import check_finite
from buckler.models.networks.layout import Layout
from buckler.models.networks.layout import Tap as Tap
from buckler.models.pretrained import Download, download


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Shape of the head: Flatten, then Dropout and Dense ReLU for each hidden layer, then Dense logits."""

    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.25


@dataclass(frozen=True, slots=True)
class Architecture(Layout):
    """One architecture, which can be built; its name is the one in ``train.network``.

    Attributes:
        maps: Builds the base: from a Keras tensor of pixels ``(batch, s, s, 3)`` in 0..1 to pooled maps.
        min_image_size: Minimum side of the input in pixels.
        frozen_base: Whether training fits only the head, on features of the base computed once.
        input_spread: Standard deviation of normalised pixels; the seeded initialisation divides by it.
        pretrained: Downloadable weights by their name in ``train.weights``.
    """

    maps: Callable[[Any], Any]
    min_image_size: int
    frozen_base: bool
    input_spread: float = 1.0
    pretrained: Mapping[str, Download] = field(default_factory=dict)

    def base(
        self, image_size: int, *, weights: str = "none", seed: int, before: keras.layers.Layer | None = None
    ) -> keras.Model:
        """Return the base: ``(batch, s, s, 3)`` pixels to pooled maps.

        Args:
            image_size: Side of the input in pixels.
            weights: ``none`` (seeded He initialisation), a name in ``pretrained`` or the path of a Keras file.
            seed: Seed of the initialisation ``none``.
            before: A layer in front of the base; its output has the shape of its input.

        Raises:
            ModelError: ``image_size`` is too small, or the weights are missing or do not fit.
        """
        if image_size < self.min_image_size:
            raise ModelError(
                f"expected data.image_size of at least {self.min_image_size} for {self.title}, got {image_size}"
            )
        pixels = keras.Input((image_size, image_size, CHANNELS), name="images")
        base = keras.Model(pixels, self.maps(pixels if before is None else before(pixels)), name=self.name)
        if weights == "none":
            self._initialise(base, seed)
        else:
            self._load(base, weights)
        if self.frozen_base:
            base.trainable = False
        return base

    def build(
        self,
        image_size: int,
        classes: int,
        *,
        head: HeadShape | None = None,
        weights: str = "none",
        seed: int,
        before: keras.layers.Layer | None = None,
    ) -> keras.Model:
        """Return base and untrained head as one network, pixels to logits; arguments and errors as ``base``."""
        base = self.base(image_size, weights=weights, seed=seed, before=before)
        inputs = int(np.prod(base.output_shape[1:]))
        return join(base, build_head(inputs, classes, head or HeadShape(), seed=seed))

    def _initialise(self, base: keras.Model, seed: int) -> None:
        convolutions = [layer for layer in base.layers if isinstance(layer, keras.layers.Conv2D)]
        for index, layer in enumerate(convolutions):
            kernel = np.asarray(keras.initializers.HeNormal(seed=seed + index)(layer.kernel.shape))
            if index == 0:
                kernel = kernel / self.input_spread  # He initialisation assumes inputs of unit variance
            layer.set_weights([kernel, np.zeros(layer.bias.shape, "float32")])

    def _load(self, base: keras.Model, weights: str) -> None:
        known = self.pretrained.get(weights)
        path = download(known) if known else Path(weights)
        if not path.is_file():
            choices = ", ".join(["none", *self.pretrained])
            raise ModelError(f"train.weights: expected {choices} or the path of a Keras weights file, got {weights}")
        try:
            with warnings.catch_warnings():
                # An error follows if weights are missing.
                warnings.filterwarnings("ignore", "Skipping nested container")
                base.load_weights(path)
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ModelError(
                f"{path} is not a Keras file with the weights of {self.title} without its top: {reason}"
            ) from error
        check_finite(((weight.path, weight.numpy()) for weight in base.weights), path)


def build_head(features: int, classes: int, head: HeadShape, *, seed: int) -> keras.Sequential:
    """Return the head: flattened maps ``(batch, features)`` to logits ``(batch, classes)``."""
    layers: list[Any] = [keras.Input((features,), name="features")]
    for index, units in enumerate(head.hidden, start=1):
        layers.append(keras.layers.Dropout(head.dropout, seed=seed + index, name=f"dropout_{index}"))
        initialiser = keras.initializers.HeUniform(seed=seed + index)
        layers.append(
            keras.layers.Dense(units, activation="relu", kernel_initializer=initialiser, name=f"dense_{index}")
        )
    initialiser = keras.initializers.GlorotUniform(seed=seed)
    layers.append(keras.layers.Dense(classes, kernel_initializer=initialiser, name="logits"))
    return keras.Sequential(layers, name="head")


def join(base: keras.Model, head: keras.Sequential) -> keras.Model:
    """Return one network, pixels to logits, that shares the weights of ``base`` and ``head``."""
    values = flatten(base).output
    for layer in head.layers:
        values = layer(values)
    return keras.Model(base.input, values, name=base.name)


def flatten(base: keras.Model) -> keras.Model:
    """Return ``base`` with its pooled maps flattened to ``(batch, features)`` float32."""
    return keras.Model(base.input, keras.layers.Flatten(name="flatten", dtype="float32")(base.output))
