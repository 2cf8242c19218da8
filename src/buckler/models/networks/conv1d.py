"""A small network of one-dimensional convolutions, for curves and signals; trains from scratch on a CPU."""

from typing import Any

from buckler.models.backend import keras
from buckler.models.networks.base import Architecture, Tap

CHANNELS = (16, 32, 48)
KERNELS = (7, 5, 3)


def _maps(values: Any) -> Any:
    # Always float32: bfloat16 would lose the last steps of the instrument.
    values = keras.layers.Rescaling(4.0, -2.0, dtype="float32", name="normalisation")(values)
    for number, (channels, kernel) in enumerate(zip(CHANNELS, KERNELS, strict=True), start=1):
        convolution = keras.layers.Conv1D(
            channels, kernel, padding="same", activation="relu", name=f"block{number}_conv"
        )
        values = convolution(values)
        if number < len(CHANNELS):
            values = keras.layers.MaxPooling1D(name=f"block{number}_pool")(values)
    return keras.layers.GlobalAveragePooling1D(dtype="float32", name="pool")(values)


CONV1D = Architecture(
    name="conv1d",
    title="the network of one-dimensional convolutions",
    maps=_maps,
    taps=tuple(Tap(f"block{number}_conv", channels) for number, channels in enumerate(CHANNELS, start=1)),
    pooling="mean",
    trace_taps=(0, 1, 2),
    probe_taps=(0, 1),
    cloud_tap=1,
    axes=2,
    min_size=8,
    frozen_base=False,
)
