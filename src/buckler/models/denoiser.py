"""A residual network that removes noise of any strength from pictures: a restoration step with a true gradient.

It splits a picture into bands, which are the differences of ever wider means, and predicts which share of each band is
noise at each pixel, and what is missing beyond that. What it predicts is subtracted. The shares let it start as a mean
over neighbours, not as a copy of the noisy picture, and so a fraction of the usual training is enough. Its convolutions
work at a half, a quarter and an eighth of the picture's resolution.

Sources: Zhang et al., "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising", arXiv
1608.03981, for the residual and for one network for all strengths; Zhang, Zuo & Zhang, "FFDNet", arXiv 1710.04026, for
pictures folded to half the resolution; Mildenhall et al., "Burst denoising with kernel prediction networks", arXiv
1712.02327, for predicting weights of a mean. More et al., "Security assured CNN-based model for reconstruction of
medical images on the Internet of healthcare things", IEEE Access 2020, put such a network in front of a diagnosis.
"""

import io
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from buckler.errors import ModelError
from buckler.modality.base import Images, check_pixels
from buckler.modality.picture.images import CHANNELS
from buckler.modality.picture.restoration import table
from buckler.modality.picture.restoration.base import Step
from buckler.models.backend import keras, tf
from buckler.models.finite import check_finite
from buckler.state import files
from buckler.state.locations import Location

MEANS = (3, 5, 9)  # sides in pixels of the means that are taken one after the other; each difference is a band
WIDTHS = (32, 64, 96)  # channels at a half, a quarter and an eighth of the resolution
BLOCKS = (1, 1, 2)  # residual blocks at each; the first two resolutions have as many on the way back
DIVISOR = 8  # of the sides that the network takes
BATCH = 16  # pictures a pass; bounds the memory
_FIRST_SHARE = 1.0  # of noise in every band before training, as a logit


class _Fold(keras.layers.Layer):  # type: ignore[misc]
    """Moves each square of four pixels into the channels of one."""

    def call(self, maps: Any) -> Any:
        """Return ``(batch, h / 2, w / 2, 4 c)`` for ``(batch, h, w, c)``."""
        return tf.nn.space_to_depth(maps, 2)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``(batch, h / 2, w / 2, 4 c)`` for ``(batch, h, w, c)``; unknown sides stay unknown."""
        batch, *sides, channels = input_shape
        return (batch, *(side and side // 2 for side in sides), 4 * channels)


class _Unfold(keras.layers.Layer):  # type: ignore[misc]
    """The inverse of `_Fold`."""

    def call(self, maps: Any) -> Any:
        """Return ``(batch, 2 h, 2 w, c / 4)`` for ``(batch, h, w, c)``."""
        return tf.nn.depth_to_space(maps, 2)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``(batch, 2 h, 2 w, c / 4)`` for ``(batch, h, w, c)``; unknown sides stay unknown."""
        batch, *sides, channels = input_shape
        return (batch, *(side and 2 * side for side in sides), channels // 4)


def build(seed: int) -> keras.Model:
    """Return an untrained network: pictures ``(batch, h, w, 3)`` to their noise, same shape; sides divide by 8."""
    numbers = count(seed)

    def convolution(maps: Any, channels: int, side: int = 3, **settings: Any) -> Any:
        initialiser = keras.initializers.HeNormal(seed=next(numbers))
        settings = {"padding": "same", "kernel_initializer": initialiser} | settings
        return keras.layers.Conv2D(channels, side, **settings)(maps)

    def blocks(maps: Any, place: int) -> Any:
        for _ in range(BLOCKS[place]):
            changed = convolution(convolution(maps, WIDTHS[place], activation="relu"), WIDTHS[place])
            maps = keras.layers.Add()([maps, changed])
        return maps

    pixels = keras.Input((None, None, CHANNELS), name="pixels")
    bands, widest = _bands(pixels)
    shown = [keras.layers.Rescaling(8.0)(band) for band in bands] + [keras.layers.Rescaling(2.0, -1.0)(widest)]
    levels = [blocks(convolution(_Fold()(keras.layers.Concatenate()(shown)), WIDTHS[0]), 0)]
    for place in range(1, len(WIDTHS)):
        levels.append(blocks(convolution(levels[-1], WIDTHS[place], 2, strides=2), place))
    maps = levels.pop()
    for place in reversed(range(len(levels))):
        larger = _Unfold()(convolution(maps, 4 * WIDTHS[place], 1))
        maps = blocks(keras.layers.Add()([larger, levels[place]]), place)
    start = keras.initializers.Constant(_FIRST_SHARE)
    shares = convolution(maps, 4 * len(bands), activation="sigmoid", kernel_initializer="zeros", bias_initializer=start)
    missing = convolution(maps, 4 * CHANNELS, kernel_initializer="zeros")
    shares, parts = _Unfold()(shares), [_Unfold()(missing)]
    for place, band in enumerate(bands):
        parts.append(keras.layers.Multiply()([band, shares[..., place : place + 1]]))
    return keras.Model(pixels, keras.layers.Add()(parts), name="denoiser")


def _bands(pixels: Any) -> tuple[list[Any], Any]:
    """Return the differences between each mean and the one before it, and the widest mean."""
    means = [pixels]
    for side in MEANS:
        means.append(keras.layers.AveragePooling2D(side, 1, "same")(means[-1]))
    return [keras.layers.Subtract()([one, wider]) for one, wider in pairwise(means)], means[-1]


class Denoiser(Step):
    """The trained network as a restoration step for pictures of any size."""

    name = table.CNN
    title = "residual CNN"
    source = "Zhang et al., arXiv 1608.03981"

    def __init__(self, network: keras.Model) -> None:
        self.network = network
        pictures = tf.TensorSpec((None, None, None, CHANNELS), tf.float32)
        self._restore = tf.function(self.restored, input_signature=[pictures])
        self._pull_back = tf.function(self._pulled_back, input_signature=[pictures, pictures])

    def __call__(self, images: Images) -> Images:
        """Return ``images`` (n, h, w, 3) in 0..1 without their noise, same shape and range."""
        check_pixels(images)
        parts = [self._restore(images[at : at + BATCH]).numpy() for at in range(0, len(images), BATCH)]
        return np.concatenate(parts) if parts else images.copy()

    def pull_back(self, images: Images, gradient: Images) -> Images:
        """Return the gradient of a loss at ``images``, given its ``gradient`` at the restored pictures."""
        places = range(0, len(images), BATCH)
        parts = [self._pull_back(images[at : at + BATCH], gradient[at : at + BATCH]).numpy() for at in places]
        return np.concatenate(parts) if parts else gradient.copy()

    def restored(self, images: Any) -> Any:
        """Return a tensor of pictures restored; differentiable."""
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        # Repeats the last rows and columns.
        rows, columns = (tf.minimum(tf.range(-side % DIVISOR + side), side - 1) for side in (height, width))
        padded = tf.gather(tf.gather(images, rows, axis=1), columns, axis=2)
        noise = self.network(padded, training=False)[:, :height, :width]
        return tf.clip_by_value(images - noise, 0.0, 1.0)

    def _pulled_back(self, images: Any, gradient: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            restored = self.restored(images)
        return tape.gradient(restored, images, output_gradients=gradient)

    def save(self, path: Path) -> None:
        """Write the weights into the file ``path``, which ends in ``.npz``; equal weights give equal bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(content, **{str(place): values for place, values in enumerate(self.network.get_weights())})
        files.write(path, content.getvalue())


def load(path: Location) -> Denoiser:
    """Return the step with the weights in ``path``; never unpickles.

    Raises:
        ModelError: ``path`` is missing, or is not a file that ``Denoiser.save`` wrote.
    """
    network = build(seed=0)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            weights = [arrays[str(place)] for place in range(len(network.weights))]
            check_finite(((name, arrays[name]) for name in arrays.files), path)
        network.set_weights(weights)
    except (OSError, EOFError, BadZipFile, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path} is not a file with the weights of the {Denoiser.title}: {reason}") from error
    return Denoiser(network)
