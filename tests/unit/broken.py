"""Defences known to be broken: each hides the gradient of the network it stands before or behind, and protects nothing.

Each is a Keras layer, so that the defended network is one that Buckler trains, attacks and serves like any other.
"""

import numpy as np
from scipy.ndimage import median_filter

from buckler.models.backend import keras, tf


class _PixelsToPixels(keras.layers.Layer):
    def compute_output_shape(self, input_shape):
        return input_shape


class Noise(_PixelsToPixels):
    """Normal noise on the pixels, at inference too."""

    def __init__(self, spread, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.spread, self.generator = spread, keras.random.SeedGenerator(seed)

    def call(self, images):
        return images + keras.random.normal(keras.ops.shape(images), stddev=self.spread, seed=self.generator)


class BitDepth(_PixelsToPixels):
    """Pixels rounded to a few levels: a staircase, flat wherever it has a derivative."""

    def __init__(self, bits, **kwargs):
        super().__init__(**kwargs)
        self.steps = 2.0**bits - 1

    def call(self, images):
        return keras.ops.round(images * self.steps) / self.steps


class Jpeg(_PixelsToPixels):
    """Pictures compressed and read again."""

    def __init__(self, quality, **kwargs):
        super().__init__(**kwargs)
        self.quality = quality

    def call(self, images):
        return tf.map_fn(lambda image: tf.image.adjust_jpeg_quality(image, self.quality), images)


class Median(_PixelsToPixels):
    """Every pixel the median of itself and those above and below, in numpy, where no gradient passes."""

    window = (1, 3, 1, 1)

    def call(self, images):
        filtered = tf.numpy_function(lambda pixels: median_filter(pixels, self.window), [images], tf.float32)
        return tf.ensure_shape(filtered, images.shape)


def saturated():
    """Return a layer behind the logits, after which the softmax is certain and the cross-entropy flat."""
    return keras.layers.Rescaling(1000.0)


def defended(network, *, front=None, behind=None):
    """Return a copy of ``network`` with the layer ``front`` before it or the layer ``behind`` after it."""
    copies = [layer.__class__.from_config(layer.get_config()) for layer in network.layers[1:]]
    pixels = keras.Input(network.input_shape[1:])
    values = pixels
    for layer in [front, *copies, behind]:
        values = values if layer is None else layer(values)
    for copy, layer in zip(copies, network.layers[1:], strict=True):
        copy.set_weights(layer.get_weights())
    return keras.Model(pixels, values)


def on_pixels(layer):
    """Return ``layer`` as a function of arrays: what an attacker who knows the defence runs."""
    return lambda images: np.asarray(layer(tf.constant(images)))
