"""Levels the light of fundus photographs inside the network, so that attacks see it.

The vessels and lesions of a retina are small and differ little from their surroundings, while the brightness of a
photograph differs much from its middle to its rim, and from camera to camera.

Source: Graham, "Kaggle diabetic retinopathy detection competition report", 2015: the local mean colour is subtracted.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.models.backend import keras

# Standard deviations of Gaussian filters, in pixels of a picture of 224 a side; others get filters in proportion.
SIDE = 224
LOCAL = 8.5  # of the local mean: wider than a vessel
SMOOTH = 0.8  # before the disc is found: single bright pixels outside are no part of it
RIM = 3.0  # of the disc's border, near which the local mean is uncertain
DARK = 0.1  # no channel is brighter: outside the disc
INSIDE = 0.9  # of a place's surroundings are bright: about 4 pixels inside the disc
CONTRAST = 0.12  # of the result, per standard deviation of the differences from the local mean


@keras.saving.register_keras_serializable(package="buckler")
class LevelLight(keras.layers.Layer):  # type: ignore[misc]
    """Maps fundus photographs in 0..1 to their differences from the local mean colour, in 0..1 around grey.

    The differences of a picture are divided by their standard deviation. Places outside the disc become grey.
    Always float32, as `buckler.models.networks.vgg.ImageNetNormalisation`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, images: Any) -> Any:
        """Return ``images`` (batch, side, side, 3) levelled, same shape; a picture does not depend on the others."""
        disc = _disc(images)
        local = _filtered(images * disc, LOCAL) / (_filtered(disc, LOCAL) + 1e-3)
        change = (images - local) * disc
        axes = (1, 2, 3)
        places = images.shape[-1] * keras.ops.sum(disc, axes, keepdims=True) + 1
        spread = keras.ops.sqrt(keras.ops.sum(change * change, axes, keepdims=True) / places + 1e-5)
        return keras.ops.clip(0.5 + CONTRAST * change / spread, 0, 1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``input_shape``."""
        return input_shape


def _disc(images: Any) -> Any:
    """Return 1 inside the disc, without its rim, and 0 outside: ``(batch, side, side, 1)``."""
    smooth = keras.ops.max(_filtered(images, SMOOTH), axis=-1, keepdims=True)
    bright = keras.ops.cast(smooth > DARK, "float32")
    return keras.ops.cast(_filtered(bright, RIM) > INSIDE, "float32")


def _filtered(maps: Any, deviation: float) -> Any:
    """Return ``maps`` (batch, side, side, channels) after a Gaussian filter; outside of the picture they are zero."""
    _, side, _, channels = maps.shape
    gaussian = _gaussian(side, deviation * side / SIDE)
    for _ in range(2):  # down, then, transposed, across
        rows = keras.ops.matmul(gaussian, keras.ops.reshape(maps, (-1, side, side * channels)))
        maps = keras.ops.transpose(keras.ops.reshape(rows, (-1, side, side, channels)), (0, 2, 1, 3))
    return maps


def _gaussian(side: int, deviation: float) -> npt.NDArray[np.float32]:
    """Return the matrix ``(side, side)`` that filters a line of ``side`` pixels.

    A product with it is as fast as a convolution, and its gradient much faster than that of pooling.
    """
    apart = np.arange(side)[:, None] - np.arange(-side, 2 * side)[None, :]
    weights = np.exp(-0.5 * (apart / deviation) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(weights[:, side : 2 * side], np.float32)
