"""A small convolutional network that trains from scratch in seconds on a CPU."""

from typing import Any

from buckler.models.backend import keras
from buckler.models.networks.base import Architecture, Tap

CHANNELS = (16, 32, 48, 64)


def _maps(pixels: Any) -> Any:
    # Always float32, as in VGG: bfloat16 would lose the last of a pixel's eight bits.
    values = keras.layers.Rescaling(4.0, -2.0, dtype="float32", name="normalisation")(pixels)
    for number, channels in enumerate(CHANNELS, start=1):
        convolution = keras.layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"block{number}_conv")
        values = convolution(values)
        if number < len(CHANNELS):
            values = keras.layers.MaxPooling2D(name=f"block{number}_pool")(values)
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(values)


TINY = Architecture(
    name="tiny",
    title="the tiny network",
    maps=_maps,
    taps=tuple(Tap(f"block{number}_conv", channels) for number, channels in enumerate(CHANNELS, start=1)),
    pooling="mean",
    trace_taps=(1, 2, 3),
    probe_taps=(1, 2),
    cloud_tap=2,
    min_size=8,
    frozen_base=False,
)
