"""VGG-19 with the head of the reference paper: pixels 0..1 in, logits out, normalisation inside.

Source: Selvakkumar, Pal & Jadidi, "Addressing Adversarial Machine Learning Attacks in Smart Healthcare
Perspectives", arXiv 2112.08862; Simonyan & Zisserman, arXiv 1409.1556, for the base.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from buckler.compute.machine import POLICIES, Precision
from buckler.errors import ModelError
from buckler.models.backend import keras
from buckler.models.info import ARCHITECTURE

MIN_IMAGE_SIZE = 32  # five poolings leave one pixel
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
IMAGENET_MD5 = "253f8cb515780f3b799900260a226db6"
BLOCK_ENDS = ("block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4")


@dataclass(frozen=True, slots=True)
class Head:
    """Shape of the trained part: Flatten, then Dropout and Dense ReLU a hidden layer, then Dense logits."""

    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.25


@keras.saving.register_keras_serializable(package="buckler")
class ImageNetNormalisation(keras.layers.Layer):  # type: ignore[misc]
    """Maps RGB pixels 0..1 to what the ImageNet weights of VGG expect: BGR, 0..255, mean subtracted.

    Always float32: in bfloat16 a pixel loses the last of its eight bits, and with it a perturbation of 1/255.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, images: Any) -> Any:
        """Return ``images`` (batch, height, width, 3) normalised, same shape."""
        return keras.ops.flip(images, axis=-1) * 255.0 - np.array(IMAGENET_MEAN_BGR, "float32")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``input_shape``."""
        return input_shape


def build_base(image_size: int, weights: str, *, seed: int, before: keras.layers.Layer | None = None) -> keras.Model:
    """Return the frozen convolutional base: ``(batch, s, s, 3)`` pixels to the last pooling's maps.

    Args:
        image_size: Pixels a side, at least 32.
        weights: ``none`` (seeded He initialisation), ``imagenet`` (download) or the path of a Keras file.
        seed: For ``none``.
        before: What the pixels go through first, same shape out as in.

    Raises:
        ModelError: The picture is too small, or the weights cannot be had or do not fit.
    """
    if image_size < MIN_IMAGE_SIZE:
        raise ModelError(f"expected data.image_size of at least {MIN_IMAGE_SIZE} for VGG-19, got {image_size}")
    pixels = keras.Input((image_size, image_size, 3), name="images")
    seen = pixels if before is None else before(pixels)
    normalised = ImageNetNormalisation(name="normalisation")(seen)
    maps = keras.applications.VGG19(weights=None, include_top=False, input_tensor=normalised).output
    base = keras.Model(pixels, maps, name=ARCHITECTURE)
    if weights == "none":
        _initialise(base, seed)
    else:
        _load_imagenet(base, weights)
    base.trainable = False
    return base


def build_head(features: int, classes: int, head: Head, *, seed: int) -> keras.Sequential:
    """Return the trainable part: flattened base features ``(batch, features)`` to logits ``(batch, classes)``."""
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
    values = flat_base(base).output
    for layer in head.layers:
        values = layer(values)
    return keras.Model(base.input, values, name=ARCHITECTURE)


def flat_base(base: keras.Model) -> keras.Model:
    """Return ``base`` with its last maps flattened to ``(batch, features)`` float32."""
    return keras.Model(base.input, keras.layers.Flatten(name="flatten", dtype="float32")(base.output))


# The head stays float32: it costs nothing, and its logits are what every number is read from.
_IN_PRECISION = frozenset({"Conv2D", "MaxPooling2D"})


def copy_in(network: keras.Model, precision: Precision) -> keras.Model:
    """Return ``network`` computing in ``precision``, with the same float32 weights."""
    if precision == "float32":
        return network
    config = network.get_config()
    for layer in config["layers"]:
        if layer["class_name"] in _IN_PRECISION:
            layer["config"]["dtype"] = POLICIES[precision]
    twin = keras.Model.from_config(config)
    twin.set_weights(network.get_weights())
    return twin


def _initialise(base: keras.Model, seed: int) -> None:
    convolutions = [layer for layer in base.layers if isinstance(layer, keras.layers.Conv2D)]
    for index, layer in enumerate(convolutions):
        kernel = np.asarray(keras.initializers.HeNormal(seed=seed + index)(layer.kernel.shape))
        if index == 0:
            kernel = kernel / 64  # He keeps a variance; the normalised pixels' is about 64 squared, bring it to one
        layer.set_weights([kernel, np.zeros(layer.bias.shape, "float32")])


def _load_imagenet(base: keras.Model, weights: str) -> None:
    path = _download() if weights == "imagenet" else Path(weights)
    if not path.is_file():
        raise ModelError(f"train.weights: expected none, imagenet or the path of a Keras weights file, got {weights}")
    try:
        base.load_weights(path)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} does not hold the weights of VGG-19 without its top in Keras layout: {error}"
        ) from error


def _download(url: str = IMAGENET_URL, md5: str = IMAGENET_MD5) -> Path:
    try:
        return Path(keras.utils.get_file(Path(url).name, url, cache_subdir="models", file_hash=md5))
    except Exception as error:  # get_file raises bare Exception when the server cannot be reached
        raise ModelError(
            f"the ImageNet weights cannot be downloaded from {url} ({error}); "
            "without internet, set train.weights to a local copy of that file"
        ) from error
