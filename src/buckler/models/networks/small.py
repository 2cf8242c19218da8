"""The demo's network: a sum of evidence from small patches, which trains from scratch in a minute on two cores.

Each place of its last maps sees 22 pixels a side, and the answer is linear in the mean of the maps if the head has no
hidden layer. A heat map of such a network shows what the answer was summed from.

Source: Brendel & Bethge, "Approximating CNNs with bag-of-local-features models works surprisingly well on ImageNet",
arXiv 1904.00760.
"""

from typing import Any

from buckler.models.backend import keras
from buckler.models.networks.base import Architecture, Tap

CHANNELS = (16, 32, 48)  # of the convolutions that see neighbouring places
PATCHES = 64  # channels of the last maps


@keras.saving.register_keras_serializable(package="buckler")
class MirrorPadding(keras.layers.Layer):  # type: ignore[misc]
    """Repeats the border pixels of maps outwards, one on each side.

    Zeros instead would be an edge, which networks answer to: heat maps would glow along the picture's border.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, maps: Any) -> Any:
        """Return ``maps`` ``(batch, h, w, c)`` padded to ``(batch, h + 2, w + 2, c)``."""
        return keras.ops.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``(batch, h + 2, w + 2, c)``."""
        batch, height, width, channels = input_shape
        return (batch, height + 2, width + 2, channels)


def _maps(pixels: Any) -> Any:
    # Always float32, as in VGG: bfloat16 would lose the last of a pixel's eight bits.
    values = keras.layers.Rescaling(4.0, -2.0, dtype="float32", name="normalisation")(pixels)
    for number, channels in enumerate(CHANNELS, start=1):
        values = MirrorPadding(name=f"block{number}_padding")(values)
        values = keras.layers.Conv2D(channels, 3, activation="relu", name=f"block{number}_conv")(values)
        values = keras.layers.MaxPooling2D(name=f"block{number}_pool")(values)
    values = keras.layers.Conv2D(PATCHES, 1, activation="relu", name="patches")(values)
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(values)


SMALL = Architecture(
    name="small",
    title="the small network",
    maps=_maps,
    taps=(
        *(Tap(f"block{number}_conv", channels) for number, channels in enumerate(CHANNELS, start=1)),
        Tap("patches", PATCHES),
    ),
    pooling="mean",
    trace_taps=(1, 2, 3),
    probe_taps=(1, 2),
    cloud_tap=2,
    min_size=8,
    frozen_base=False,
)
