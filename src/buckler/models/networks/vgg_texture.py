"""VGG-19 read at several depths: small spots and texture from early blocks, parts of the scene from late ones.

The head is linear in the mean of the maps over all places, if it has no hidden layers: a heat map shows what the answer
was summed from. Such a head needs few pictures, and `train.weight_decay`.

``vgg19_texture`` is for photographs of any kind; ``vgg19_fundus`` levels the light of photographs of the retina first,
and ends earlier: its lesions are small.

Source: Gatys, Ecker & Bethge, "Texture synthesis using convolutional neural networks", arXiv 1505.07376, for textures
as averages over the places of early blocks; Hariharan et al., "Hypercolumns for object segmentation and fine-grained
localization", arXiv 1411.5752, for joining the maps of several blocks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from buckler.models.backend import keras
from buckler.models.networks.base import Architecture, Tap
from buckler.models.networks.fundus import LevelLight
from buckler.models.networks.vgg import VGG19, normalised_vgg19

STRIDE = 16  # pixels between neighbouring places of the joined maps
BLOCKS = (
    Tap("block2_conv2", 128),
    Tap("block3_conv2", 256),
    Tap("block4_conv2", 512),
    Tap("block5_conv2", 512),
)


def _maps(pixels: Any, *, blocks: Sequence[Tap], before: Callable[[], Any] | None) -> Any:
    vgg = normalised_vgg19(pixels if before is None else before()(pixels))
    joined = []
    for tap in blocks:
        maps = vgg.get_layer(tap.layer).output
        if (width := STRIDE // _stride(tap)) > 1:
            maps = keras.layers.AveragePooling2D(width, dtype="float32", name=f"{tap.layer}_mean")(maps)
        joined.append(maps)
    maps = keras.layers.Concatenate(dtype="float32", name="texture")(joined)
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(maps)


def _stride(tap: Tap) -> int:
    """Return the pixels between neighbouring places of a block's maps: each block but the first halves the maps."""
    return int(2 ** (int(tap.layer.removeprefix("block")[0]) - 1))


def _architecture(name: str, title: str, blocks: Sequence[Tap], before: Callable[[], Any] | None) -> Architecture:
    joined = Tap("texture", sum(tap.channels for tap in blocks))
    return Architecture(
        name=name,
        title=title,
        maps=partial(_maps, blocks=blocks, before=before),
        taps=(*blocks, joined),
        pooling="mean",
        trace_taps=tuple(range(len(blocks))),
        probe_taps=(1, 2),
        cloud_tap=2,
        min_size=32,  # the joined maps have at least two places a side
        frozen_base=True,
        standardised=True,
        input_spread=VGG19.input_spread,
        pretrained=VGG19.pretrained,
        weights_of=VGG19,
    )


VGG19_TEXTURE = _architecture("vgg19_texture", "VGG-19 read at four depths", BLOCKS, None)
VGG19_FUNDUS = _architecture(
    "vgg19_fundus", "VGG-19 for the retina", BLOCKS[:3], partial(LevelLight, name="level_light")
)
