"""Description of a network architecture, and the parts that all architectures share.

An architecture is one file that defines one `Architecture`, and an entry in `buckler.models.networks.table`. All code
that depends on layers (training, features, detectors, export, heat maps, hardening) reads that description.

Every network is a base and a head. The base normalises inputs in 0..1 and maps them to pooled maps; the head maps the
flattened maps to logits.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.errors import ModelError
from buckler.modality.base import Shape
from buckler.models.backend import keras
from buckler.models.finite import check_finite
from buckler.models.networks.layout import Layout
from buckler.models.networks.layout import Tap as Tap
from buckler.models.pretrained import Download, download

CONSTANT = 1e-3  # standard deviation, as a share of the mean, up to which a feature does not vary: float16's rounding


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Shape of the head: Flatten, then Dropout and Dense ReLU for each hidden layer, then Dense logits.

    Attributes:
        hidden: Widths of the hidden layers.
        dropout: Share of the activations dropped in training.
        weight_decay: Added to the loss in training: this number times the sum of the squared weights of all Dense
            layers, biases excluded.
        standardised: Whether the head begins with `Standardisation`.
    """

    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.25
    weight_decay: float = 0.0
    standardised: bool = False


@keras.saving.register_keras_serializable(package="buckler")
class Standardisation(keras.layers.Layer):  # type: ignore[misc]
    """Scales each of the features ``(batch, features)`` to mean 0 and standard deviation 1 over those in ``adapt``.

    Before ``adapt``, it changes nothing. Training does not change it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, input_shape: Any) -> None:
        """Create the mean and the spread of each feature."""
        shape = (input_shape[-1],)
        self.mean = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="mean")
        self.spread = self.add_weight(shape=shape, initializer="ones", trainable=False, name="spread")

    def adapt(self, features: npt.NDArray[np.floating[Any]]) -> None:
        """Use mean and standard deviation of ``features`` ``(..., features)``.

        A feature that does not vary counts as one that varies as much as the most variable, so that it stays small
        in other pictures.
        """
        axes = tuple(range(features.ndim - 1))
        mean, spread = features.mean(axes, dtype=np.float64), features.std(axes, dtype=np.float64)
        varies = spread > CONSTANT * np.abs(mean)
        self.set_weights([mean, np.where(varies, spread, spread[varies].max(initial=1.0))])

    def call(self, features: Any) -> Any:
        """Return ``features`` standardised."""
        return (features - self.mean) / self.spread

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``input_shape``."""
        return input_shape


@dataclass(frozen=True, slots=True)
class Architecture(Layout):
    """One architecture, which can be built; its name is the one in ``train.network``.

    Attributes:
        maps: Builds the base: from a Keras tensor of inputs in 0..1 to pooled maps.
        min_size: Smallest length of an axis before the channels.
        axes: Number of axes of an input: 3 for pictures ``(height, width, channels)``.
        frozen_base: Whether training fits only the head, on features of the base computed once.
        standardised: Whether the head standardises its inputs: a base that joins maps of several blocks has features
            of very different sizes. Only for a frozen base.
        input_spread: Standard deviation of normalised pixels; the seeded initialisation divides by it.
        pretrained: Downloadable weights by their name in ``train.weights``.
        weights_of: Architecture whose files of weights this one reads: the weights of its own layers, by their names.
            None: its own files.
    """

    maps: Callable[[Any], Any]
    min_size: int
    frozen_base: bool
    axes: int = 3
    standardised: bool = False
    input_spread: float = 1.0
    pretrained: Mapping[str, Download] = field(default_factory=dict)
    weights_of: "Architecture | None" = None

    def base(
        self, shape: Shape, *, weights: str = "none", seed: int, before: keras.layers.Layer | None = None
    ) -> keras.Model:
        """Return the base: inputs ``(batch, *shape)`` to pooled maps.

        Args:
            shape: Shape of an input.
            weights: ``none`` (seeded He initialisation), a name in ``pretrained`` or the path of a Keras file.
            seed: Seed of the initialisation ``none``.
            before: A layer in front of the base; its output has the shape of its input.

        Raises:
            ModelError: The network does not fit ``shape``, or the weights are missing or do not fit.
        """
        self.check_shape(shape)
        inputs = keras.Input(shape, name="images")
        base = keras.Model(inputs, self.maps(inputs if before is None else before(inputs)), name=self.name)
        if weights == "none":
            self._initialise(base, seed)
        elif self.weights_of is not None:
            _copy_by_name(self.weights_of.base(shape, weights=weights, seed=seed), base)
        else:
            self._load(base, weights)
        if self.frozen_base:
            base.trainable = False
        return base

    def build(
        self,
        shape: Shape,
        classes: int,
        *,
        head: HeadShape | None = None,
        weights: str = "none",
        seed: int,
        before: keras.layers.Layer | None = None,
    ) -> keras.Model:
        """Return base and untrained head as one network, inputs to logits; arguments and errors as ``base``."""
        base = self.base(shape, weights=weights, seed=seed, before=before)
        inputs = int(np.prod(base.output_shape[1:]))
        return join(base, build_head(inputs, classes, head or HeadShape(standardised=self.standardised), seed=seed))

    def check_shape(self, shape: Shape) -> None:
        """Raise ModelError unless the network fits inputs of ``shape``."""
        if len(shape) != self.axes:
            raise ModelError(f"expected an input with {self.axes} axes for {self.title}, got the shape {shape}")
        if min(shape[:-1], default=self.min_size) < self.min_size:
            raise ModelError(
                f"expected data.image_size of at least {self.min_size} for {self.title}, got the shape {shape}"
            )

    def _initialise(self, base: keras.Model, seed: int) -> None:
        weighted = [layer for layer in base.layers if isinstance(layer, _WEIGHTED)]
        for index, layer in enumerate(weighted):
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


# Layers whose kernel the seeded initialisation draws.
_WEIGHTED = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Dense)


def _copy_by_name(source: keras.Model, base: keras.Model) -> None:
    for layer in base.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def build_head(features: int, classes: int, head: HeadShape, *, seed: int) -> keras.Sequential:
    """Return the head: flattened maps ``(batch, features)`` to logits ``(batch, classes)``."""
    layers: list[Any] = [keras.Input((features,), name="features")]
    if head.standardised:
        layers.append(Standardisation(name="standardisation"))
    decay = keras.regularizers.L2(head.weight_decay) if head.weight_decay else None
    for index, units in enumerate(head.hidden, start=1):
        layers.append(keras.layers.Dropout(head.dropout, seed=seed + index, name=f"dropout_{index}"))
        initialiser = keras.initializers.HeUniform(seed=seed + index)
        layers.append(
            keras.layers.Dense(
                units,
                activation="relu",
                kernel_initializer=initialiser,
                kernel_regularizer=decay,
                name=f"dense_{index}",
            )
        )
    initialiser = keras.initializers.GlorotUniform(seed=seed)
    layers.append(keras.layers.Dense(classes, kernel_initializer=initialiser, kernel_regularizer=decay, name="logits"))
    return keras.Sequential(layers, name="head")


def join(base: keras.Model, head: keras.Sequential) -> keras.Model:
    """Return one network, inputs to logits, that shares the weights of ``base`` and ``head``."""
    values = flatten(base).output
    for layer in head.layers:
        values = layer(values)
    return keras.Model(base.input, values, name=base.name)


def flatten(base: keras.Model) -> keras.Model:
    """Return ``base`` with its pooled maps flattened to ``(batch, features)`` float32."""
    return keras.Model(base.input, keras.layers.Flatten(name="flatten", dtype="float32")(base.output))
