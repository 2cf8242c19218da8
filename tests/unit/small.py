"""A network trained in seconds, whose robust accuracy is neither nothing nor everything: where attacks differ."""

import functools

import numpy as np

from buckler.models.backend import keras
from buckler.models.classifier import Classifier

SIDE = 16
STRIDES = (2, 1, 2, 1, 2)


def pictures(classes, count, seed, symmetric=False):
    """Return noisy pictures of ``classes`` faint patterns, and their labels; ``symmetric``: turned or not the same."""
    patterns = np.random.default_rng(99).normal(0, 0.09, (classes, SIDE, SIDE, 3))
    if symmetric:
        quarter = sum(np.rot90(patterns, turns, axes=(1, 2)) for turns in range(4))
        patterns = (quarter + quarter[:, :, ::-1]) / np.sqrt(8)
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = 0.5 + patterns[labels] * generator.uniform(0.3, 1.5, (count, 1, 1, 1))
    noisy = np.clip(images + generator.normal(0, 0.15, images.shape), 0, 1)
    return (np.rint(noisy * 255) / 255).astype(np.float32), labels


@functools.cache
def train(classes, symmetric=False):
    """Return the classifier and its Keras network, which all tests of a process share and none changes."""
    keras.utils.set_random_seed(classes)
    layers = [keras.Input((SIDE, SIDE, 3))]
    layers += [keras.layers.Conv2D(12, 3, strides=s, padding="same", activation="relu") for s in STRIDES]
    layers += [keras.layers.Flatten(), keras.layers.Dense(classes)]
    network = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(3e-3), loss)
    network.fit(*pictures(classes, 2000, 1, symmetric), batch_size=64, epochs=6, verbose=0)
    functional = keras.Model(network.inputs, network.outputs[0])
    return Classifier(functional, batch_size=32), functional
