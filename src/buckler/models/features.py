"""The features the detector reads, taken from the same pass that gives the logits."""

from collections.abc import Callable
from typing import Any

import numpy as np

from buckler.modality.base import Images
from buckler.models.backend import keras
from buckler.models.forward import Maps
from buckler.models.networks.vgg import BLOCK_ENDS

SILENT = 1e-12  # variance below which a channel counts as silent


@keras.saving.register_keras_serializable(package="buckler")
class MeanAndSpread(keras.layers.Layer):  # type: ignore[misc]
    """Pools maps ``(batch, h, w, c)`` to each channel's mean and standard deviation, ``(batch, 2 c)`` float32."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, maps: Any) -> Any:
        """Return ``(batch, 2 c)``: the means, then the standard deviations."""
        mean, variance = keras.ops.moments(keras.ops.cast(maps, "float32"), axes=[1, 2])
        # Not zero: a channel that is silent everywhere would have no gradient but NaN.
        return keras.ops.concatenate([mean, keras.ops.sqrt(keras.ops.maximum(variance, SILENT))], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``(batch, 2 c)``."""
        return (input_shape[0], 2 * input_shape[-1])


def add_features(network: keras.Model) -> keras.Model:
    """Return ``network`` with two outputs, ``(logits, features)``, sharing its weights.

    ``features`` holds, block after block, mean and spread of each channel at the block's end; see ``slices``.
    """
    pooled = [MeanAndSpread(name=f"{name}_pooled")(network.get_layer(name).output) for name in BLOCK_ENDS]
    return keras.Model(network.input, (network.output, keras.layers.Concatenate(dtype="float32")(pooled)))


def maps_of(network: keras.Model) -> Callable[[Images], Maps]:
    """Return what gives one picture's maps of the last convolution, ``(s, s, 3)`` in 0..1 to ``(h, w, channels)``."""
    until_maps = keras.Model(network.input, network.get_layer(BLOCK_ENDS[-1]).output)
    return lambda pixels: np.asarray(until_maps(pixels[None], training=False))[0]
