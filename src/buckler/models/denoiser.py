"""A residual network that removes noise of any strength from pictures: a restoration step with a true gradient.

It predicts the noise and subtracts it. Its convolutions work at half the picture's resolution, a quarter of the work.

Source: Zhang et al., "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising", arXiv 1608.03981,
for the residual and for one network for all strengths; Zhang, Zuo & Zhang, "FFDNet", arXiv 1710.04026, for the lower
resolution. More et al., "Security assured CNN-based model for reconstruction of medical images on the Internet of
healthcare things", IEEE Access 2020, put such a network in front of a diagnosis.
"""

import warnings
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from buckler.errors import ModelError
from buckler.modality.base import Images, check_pixels
from buckler.modality.picture.images import CHANNELS
from buckler.modality.picture.restoration.base import Step
from buckler.models.backend import keras, tf
from buckler.models.finite import check_finite

NAME = "cnn"
FULL, HALF, QUARTER = 16, 24, 32  # channels at the full resolution, at half of it, at a quarter and an eighth
DIVISOR = 8  # of the sides that the network takes
BATCH = 16  # pictures a pass; bounds the memory


def build(seed: int) -> keras.Model:
    """Return an untrained network: pictures ``(batch, h, w, 3)`` to their noise, same shape; sides divide by 8."""
    numbers = count(seed)

    def convolution(maps: Any, name: str, channels: int) -> Any:
        initialiser = keras.initializers.HeNormal(seed=next(numbers))
        settings = {"padding": "same", "activation": "relu", "kernel_initializer": initialiser, "name": name}
        return keras.layers.Conv2D(channels, 3, **settings)(maps)

    def halved(maps: Any) -> Any:
        return keras.layers.AveragePooling2D(2)(maps)

    def joined(maps: Any, smaller: Any) -> Any:
        return keras.layers.Add()([maps, keras.layers.UpSampling2D(2)(smaller)])

    pixels = keras.Input((None, None, CHANNELS), name="pixels")
    full = convolution(keras.layers.Rescaling(2.0, -1.0, name="centre")(pixels), "full", FULL)
    half = convolution(convolution(halved(full), "half1", HALF), "half2", HALF)
    quarter = convolution(convolution(halved(half), "quarter1", QUARTER), "quarter2", QUARTER)
    eighth = convolution(halved(quarter), "eighth", QUARTER)
    half = joined(half, convolution(joined(quarter, eighth), "quarter3", HALF))
    full = convolution(joined(full, convolution(half, "half3", FULL)), "full2", FULL)
    noise = keras.layers.Conv2D(CHANNELS, 3, padding="same", kernel_initializer="zeros", name="noise")(full)
    return keras.Model(pixels, noise, name="denoiser")


class Denoiser(Step):
    """The trained network as a restoration step for pictures of any size."""

    name = NAME
    title = "residual CNN"
    source = "Zhang et al., arXiv 1608.03981"

    def __init__(self, network: keras.Model) -> None:
        self.network = network
        pictures = tf.TensorSpec((None, None, None, CHANNELS), tf.float32)
        self._restore = tf.function(self._restored, input_signature=[pictures])
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

    def _restored(self, images: Any) -> Any:
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        # Repeats the last rows and columns.
        rows, columns = (tf.minimum(tf.range(-side % DIVISOR + side), side - 1) for side in (height, width))
        padded = tf.gather(tf.gather(images, rows, axis=1), columns, axis=2)
        noise = self.network(padded, training=False)[:, :height, :width]
        return tf.clip_by_value(images - noise, 0.0, 1.0)

    def _pulled_back(self, images: Any, gradient: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            restored = self._restored(images)
        return tape.gradient(restored, images, output_gradients=gradient)

    def save(self, path: Path) -> None:
        """Write the weights into a Keras weights file ``path``, whose name ends in ``.weights.h5``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.network.save_weights(path)


def load(path: Path) -> Denoiser:
    """Return the step with the weights in ``path``.

    Raises:
        ModelError: ``path`` is missing, or is not a file that ``Denoiser.save`` wrote.
    """
    network = build(seed=0)
    try:
        with warnings.catch_warnings():
            # An error follows if weights are missing.
            warnings.filterwarnings("ignore", "Skipping nested container")
            network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path} is not a file with the weights of the {Denoiser.title}: {reason}") from error
    check_finite(((weight.path, weight.numpy()) for weight in network.weights), path)
    return Denoiser(network)
