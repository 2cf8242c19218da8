"""Converts decoded pictures of any mode to 8-bit sRGB, transparent pixels blended with white."""

import numpy as np
from PIL import Image

from buckler.modality.picture import colour
from buckler.modality.picture.colour import Conversion
from buckler.modality.picture.decoded import Decoded

_STRIP_PIXELS = 4_000_000
_SIXTEEN_BIT_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def to_rgb(found: Decoded) -> Image.Image:
    """Return the picture as 8-bit sRGB, converted in strips to save memory: each conversion step copies its input."""
    image = found.image
    convert = colour.conversion(found.profile, image.mode)
    if image.mode == "RGB" and not image.has_transparency_data:
        if convert:
            convert.in_place(image)
        return image
    rows = max(1, _STRIP_PIXELS // image.width)
    if image.height <= rows:
        return _strip_to_rgb(image, convert)
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(_strip_to_rgb(strip, convert), (0, top))
    return result


def _strip_to_rgb(image: Image.Image, convert: Conversion | None) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_GREY:
        image = _eight_bit_grey(image)
    if not image.has_transparency_data:
        return convert(image) if convert else image.convert("RGB")
    layer = image.convert("RGBA")
    if convert:
        alpha = layer.getchannel("A")
        layer = convert(layer)
        layer.putalpha(alpha)
    # The blend comes after the conversion, as in browsers.
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _eight_bit_grey(image: Image.Image) -> Image.Image:
    """Return 16-bit grey as 8-bit; convert("RGB") would clip the values at 255, which is nearly always white."""
    grey = np.asarray(image)
    if grey.dtype.itemsize > 2:
        grey = np.clip(grey, 0, 0xFFFF).astype(np.uint16)
    eight = Image.fromarray((grey >> 8).astype(np.uint8))
    key = image.info.get("transparency")
    if key is not None:
        eight.putalpha(Image.fromarray(np.where(grey == key, 0, 255).astype(np.uint8)))
    return eight
