"""VGG-19 with the head of the reference paper.

Source: Selvakkumar, Pal & Jadidi, "Addressing Adversarial Machine Learning Attacks in Smart Healthcare
Perspectives", arXiv 2112.08862; Simonyan & Zisserman, arXiv 1409.1556, for the base.
"""

from typing import Any

import numpy as np

from buckler.models.backend import keras
from buckler.models.networks.base import Architecture, Tap
from buckler.models.pretrained import Download

IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)


@keras.saving.register_keras_serializable(package="buckler")
class ImageNetNormalisation(keras.layers.Layer):  # type: ignore[misc]
    """Maps RGB pixels in 0..1 to the input of VGG's ImageNet weights: BGR, 0..255, mean subtracted.

    Always float32: bfloat16 would lose the last of a pixel's eight bits, and with it perturbations of 1/255.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, images: Any) -> Any:
        """Return ``images`` (batch, height, width, 3) normalised, same shape."""
        return keras.ops.flip(images, axis=-1) * 255.0 - np.array(IMAGENET_MEAN_BGR, "float32")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``input_shape``."""
        return input_shape


def normalised_vgg19(pixels: Any) -> keras.Model:
    """Return VGG-19 without its top, of ``pixels`` in 0..1, a Keras tensor; its weights are not initialised."""
    normalised = ImageNetNormalisation(name="normalisation")(pixels)
    return keras.applications.VGG19(weights=None, include_top=False, input_tensor=normalised)


def _maps(pixels: Any) -> Any:
    return normalised_vgg19(pixels).output


VGG19 = Architecture(
    name="vgg19",
    title="VGG-19",
    maps=_maps,
    taps=(
        Tap("block1_conv2", 64),
        Tap("block2_conv2", 128),
        Tap("block3_conv4", 256),
        Tap("block4_conv4", 512),
        Tap("block5_conv4", 512),
    ),
    pooling="max",
    trace_taps=(2, 3, 4),
    probe_taps=(2, 3),
    cloud_tap=3,  # earlier taps miss blurred pictures, the last one dark pictures
    min_size=32,  # leaves one pixel after five poolings
    frozen_base=True,
    input_spread=64,
    pretrained={
        "imagenet": Download(
            "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            md5="253f8cb515780f3b799900260a226db6",
        )
    },
)
