"""A trained network in one precision: computes logits, features and loss gradients for pixels."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from buckler.compute.machine import POLICIES, Precision
from buckler.modality.base import Images, Labels, check_pixels
from buckler.models.backend import keras, tf
from buckler.models.features import add_features, last_maps
from buckler.models.forward import Forward, Logits
from buckler.models.gradients import LossName


class Classifier:
    """A network in one precision with a fixed batch size, so that each function is compiled once.

    A smaller last batch is padded. A picture's result does not depend on the other pictures of its batch.

    Args:
        network: Maps pixels ``(batch, height, width, 3)`` in 0..1 to logits; normalises inside.
        precision: Number format of the base.
        batch_size: Pictures per call of a compiled function.
    """

    def __init__(self, network: keras.Model, precision: Precision = "float32", *, batch_size: int = 8) -> None:
        self.precision: str = precision
        self.batch_size = batch_size
        self._shape = (batch_size, *network.input_shape[1:])
        self.classes = int(network.output_shape[-1])
        twin = copy_in(network, precision)
        self._twin, self._with_features = twin, add_features(twin)
        self._seeds = [v for v in twin.non_trainable_variables if v.name == "seed_generator_state"]
        signature = self._signature = [tf.TensorSpec(self._shape, tf.float32)]
        labelled = [*signature, tf.TensorSpec((batch_size,), tf.int64)]
        self._forward = tf.function(
            lambda images: self._with_features(images, training=False), input_signature=signature
        )
        self._logits = tf.function(lambda images: twin(images, training=False), input_signature=signature)
        # Each is traced at its first call; most attacks need only one.
        self._gradients = {
            name: tf.function(gradient, input_signature=labelled)
            for name, gradient in self._loss_gradients(twin).items()
        }

    def _loss_gradients(self, network: keras.Model) -> dict[LossName, Callable[[Any, Any], tuple[Any, Any]]]:
        """Return for each loss a function from images and labels to the loss's gradient and the logits."""
        return {name: _gradient_of(network, loss) for name, loss in _LOSSES.items()}

    @cached_property
    def _forward_with_maps(self) -> Any:
        """As ``_forward``, with the maps; built and traced only for those who explain answers."""
        maps = keras.ops.cast(last_maps(self._twin), "float32")
        network = keras.Model(self._twin.input, (*self._with_features.outputs, maps))
        return tf.function(lambda images: network(images, training=False), input_signature=self._signature)

    def forward(
        self, images: Images, progress: Callable[[int], object] | None = None, *, maps: bool = False
    ) -> Forward:
        """Return logits and features of ``images``, and with ``maps`` the last tap's maps of the same pass.

        Args:
            images: ``(batch, height, width, 3)`` float32 in 0..1.
            progress: Receives the size of each finished batch.
            maps: Whether to return the maps.

        Raises:
            ModelError: ``maps`` of a network that was not built from a known architecture.
        """
        compute = self._forward_with_maps if maps else self._forward
        passes = []
        for chunk, count in self._batches(images):
            passes.append([output.numpy()[:count] for output in compute(chunk)])
            if progress:
                progress(count)
        if not passes:
            passes = [[output.numpy()[:0] for output in compute(np.zeros(self._shape, np.float32))]]
        return Forward(*(np.concatenate(parts) for parts in zip(*passes, strict=True)))

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for pixels ``(batch, height, width, 3)`` in 0..1."""
        parts = [self._logits(chunk).numpy()[:count] for chunk, count in self._batches(images)]
        return np.concatenate(parts) if parts else np.zeros((0, self.classes), np.float32)

    def loss_gradient(self, images: Images, labels: Labels, loss: LossName = "cross_entropy") -> tuple[Images, Logits]:
        """Return the gradient of the summed ``loss`` with respect to ``images``, and the logits of the same pass.

        Args:
            images: ``(batch, height, width, 3)`` float32 in 0..1.
            labels: Class indices, ``(batch,)``.
            loss: The loss to differentiate.
        """
        gradients, logits = [], []
        for start, (chunk, count) in enumerate(self._batches(images)):
            targets = np.zeros(self.batch_size, np.int64)
            targets[:count] = labels[start * self.batch_size :][: self.batch_size]
            gradient, values = self._gradients[loss](chunk, targets)
            gradients.append(gradient.numpy()[:count])
            logits.append(values.numpy()[:count])
        if not gradients:
            return np.zeros_like(images), np.zeros((0, self.classes), np.float32)
        return np.concatenate(gradients), np.concatenate(logits)

    def reseed(self, seed: int) -> None:
        """Seed the network's random layers, each with its own stream; without such layers, do nothing."""
        for place, state in enumerate(self._seeds):
            state.assign(np.array([seed, place], state.dtype))

    def _batches(self, images: Images) -> Iterator[tuple[Images, int]]:
        check_pixels(images)
        if images.shape[1:] != self._shape[1:]:
            raise ValueError(f"expected images of shape {('batch', *self._shape[1:])}, got {images.shape}")
        for start in range(0, len(images), self.batch_size):
            chunk = images[start : start + self.batch_size]
            padded = np.zeros(self._shape, np.float32)
            padded[: len(chunk)] = chunk
            yield padded, len(chunk)


def _margin(labels: Any, logits: Any) -> Any:
    own = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
    others = tf.reduce_max(tf.where(own, tf.constant(-np.inf, logits.dtype), logits), axis=1)
    return others - tf.gather(logits, labels, batch_dims=1)


_LOSSES: dict[LossName, Callable[[Any, Any], Any]] = {
    "cross_entropy": tf.nn.sparse_softmax_cross_entropy_with_logits,
    "margin": _margin,
    "logit": lambda labels, logits: tf.gather(logits, labels, batch_dims=1),
}


def _gradient_of(network: keras.Model, loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], tuple[Any, Any]]:
    def gradient(images: Any, labels: Any) -> tuple[Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = network(images, training=False)
            # Sum, not mean: an image's gradient must not depend on the other images of its batch.
            total = tf.reduce_sum(loss(labels, logits))
        # Zeros for operations without gradient, such as rounding; the sanity checks detect these.
        return tape.gradient(total, images, unconnected_gradients=tf.UnconnectedGradients.ZERO), logits

    return gradient


# Layers of the base. Normalisation and head stay float32: the head takes hardly any time, and all results depend on its
# logits.
_IN_PRECISION = frozenset({"Conv1D", "Conv2D", "MaxPooling1D", "MaxPooling2D"})


def copy_in(network: keras.Model, precision: Precision) -> keras.Model:
    """Return ``network`` computing in ``precision`` with the same float32 weights; float32 returns ``network``."""
    if precision == "float32":
        return network
    config = network.get_config()
    for layer in config["layers"]:
        if layer["class_name"] in _IN_PRECISION:
            layer["config"]["dtype"] = POLICIES[precision]
    twin = keras.Model.from_config(config)
    twin.set_weights(network.get_weights())
    return twin
