"""Features for the detectors, computed in the same pass as the logits."""

from typing import Any

import numpy as np

from buckler.models.backend import keras
from buckler.models.explanation import HeadWeights
from buckler.models.networks import table
from buckler.models.networks.base import Standardisation

SILENT = 1e-12  # variance below which a channel counts as constant


@keras.saving.register_keras_serializable(package="buckler")
class MeanAndSpread(keras.layers.Layer):  # type: ignore[misc]
    """Pools maps ``(batch, ..., c)`` to each channel's mean and standard deviation, ``(batch, 2 c)`` float32."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, maps: Any) -> Any:
        """Return ``(batch, 2 c)``: the means, then the standard deviations."""
        places = list(range(1, len(maps.shape) - 1))
        mean, variance = keras.ops.moments(keras.ops.cast(maps, "float32"), axes=places)
        # At zero, the gradient of a constant channel would be NaN.
        return keras.ops.concatenate([mean, keras.ops.sqrt(keras.ops.maximum(variance, SILENT))], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``(batch, 2 c)``."""
        return (input_shape[0], 2 * input_shape[-1])


def add_features(network: keras.Model) -> keras.Model:
    """Return ``network`` with two outputs, ``(logits, features)``, sharing its weights.

    ``features``, ``(batch, n)`` float32, are the mean and the standard deviation of each channel of each tap, tap
    after tap; `buckler.models.networks.layout.Layout.columns` returns the columns of a tap. A Keras model that was
    built neither from a known architecture nor from a file has no taps and no features.
    """
    layers = [tap.layer for tap in table.taps_of(network)]
    pooled = [MeanAndSpread(name=f"{layer}_pooled")(network.get_layer(layer).output) for layer in layers]
    if not pooled:
        return keras.Model(network.input, (network.output, network.output[:, :0]))
    return keras.Model(network.input, (network.output, keras.layers.Concatenate(dtype="float32")(pooled)))


def last_maps(network: keras.Model) -> Any:
    """Return the maps of the last tap, as a Keras tensor of ``network``."""
    return network.get_layer(table.layout_of(network).taps[-1].layer).output


def head_of(network: keras.Model) -> HeadWeights | None:
    """Return the layers after the last tap of ``network``: its pooling and its dense layers.

    None if other layers are among them: no heat map could explain the answers exactly. A standardisation becomes part
    of the first dense layer.
    """
    layout = table.layout_of(network)
    if layout.pooling is None:
        return None
    names = [layer.name for layer in network.layers]
    after = network.layers[names.index(layout.taps[-1].layer) + 1 :]
    dense = [layer for layer in after if isinstance(layer, keras.layers.Dense)]
    kernels = [np.asarray(layer.kernel) for layer in dense]
    biases = [np.asarray(layer.bias) if layer.use_bias else np.zeros(layer.units, np.float32) for layer in dense]
    for layer in after:
        if isinstance(layer, Standardisation):
            mean, spread = layer.get_weights()
            kernels[0] = kernels[0] / spread[:, None]
            biases[0] = biases[0] - mean @ kernels[0]
    return HeadWeights(tuple(kernels), tuple(biases), layout.pooling)
