"""Decodes PNG with Pillow, after its data are checked."""

import io

import numpy as np
from PIL import Image

from buckler.modality.picture import png_colour, png_file
from buckler.modality.picture.decode_budget import check_raw_bytes, check_size
from buckler.modality.picture.decoded import Decoded, upright
from buckler.modality.picture.faults import decoding_errors
from buckler.modality.picture.png_file import PngFile

_KEY_BYTES = {png_file.GREY: 2, png_file.RGB: 6}
_LOW_BYTES = "RGB;16L"  # Pillow's unpacker of the second byte of each sample, which is the low one here


def decode(content: bytes, most_pixels: int) -> Decoded:
    """Return the upright picture in its own mode.

    A transparent colour is in the picture's ``info`` as Pillow expects it; of 16-bit grey, the stored value.

    Args:
        content: The file.
        most_pixels: Most pixels that are decoded.

    Raises:
        UnusableImageError: It is damaged or exceeds a limit; ``code`` states the fault.
    """
    file = png_file.read(content)
    check_size(file.width, file.height, most_pixels=most_pixels)
    check_raw_bytes(file.raw_bytes)
    profile = png_colour.profile(file.chunks)
    with decoding_errors("PNG"):
        with file.uncompressed() as pixels:  # closed before the next step: Pillow's picture would keep them in memory
            image = _with_key(file, pixels)
        return upright(image, file.chunks.get(b"eXIf"), image.size, profile)


def _with_key(file: PngFile, pixels: io.BytesIO) -> Image.Image:
    """Return the picture, whose transparent colour is that of the chunk tRNS."""
    image = _loaded(pixels)
    key = file.chunks.get(b"tRNS", b"")
    if not key or len(key) != _KEY_BYTES.get(file.colour):
        return image  # a palette has its own transparency, and an alpha channel comes before a key
    values = [int.from_bytes(key[place : place + 2], "big") & (1 << file.depth) - 1 for place in range(0, len(key), 2)]
    if file.colour == png_file.RGB and file.depth == 16:
        image.putalpha(_unlike(values, image, _loaded(pixels, _LOW_BYTES)))
        return image
    if file.colour == png_file.RGB:
        image.info["transparency"] = tuple(values)
        return image
    if file.depth < 8:
        image = image.convert("L")
        values[0] *= 255 // ((1 << file.depth) - 1)
    image.info["transparency"] = values[0]
    return image


def _loaded(pixels: io.BytesIO, unpacker: str | None = None) -> Image.Image:
    pixels.seek(0)
    with Image.open(pixels, formats=["PNG"]) as image:
        if unpacker:
            image.tile = [tile._replace(args=unpacker) for tile in image.tile]
        image.load()
        return image


def _unlike(key: list[int], high: Image.Image, low: Image.Image) -> Image.Image:
    """Return an alpha channel that hides the 16-bit colour ``key``."""
    parts = ((high, [value >> 8 for value in key]), (low, [value & 0xFF for value in key]))
    hidden = np.ones((high.height, high.width), bool)
    for picture, values in parts:
        for channel, value in zip(picture.split(), values, strict=True):
            hidden &= np.asarray(channel) == value
    return Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))
