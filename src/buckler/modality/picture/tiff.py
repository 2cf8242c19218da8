"""Decodes a bounded subset of TIFF with Pillow and libtiff; runs in the child process of `foreign`.

Grey of up to 8 and of 16 bits, palettes, and RGB of 8 and 16 bits with or without transparency, in the compressions
that pictures have. Files of several pages are refused, since the sender may mean any of them.

Source: TIFF 6.0; TIFF Technical Note 2 (JPEG).
"""

import io
import math
import zlib
from typing import Any, Final

import numpy as np
import simplejpeg
from PIL import Image

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import tiff_header
from buckler.modality.picture.decode_budget import check_size
from buckler.modality.picture.decoded import Decoded
from buckler.modality.picture.faults import unreadable

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT = 256, 257, 258, 259, 262, 277, 339
_ROWS_PER_STRIP, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _JPEG_TABLES = 278, 284, 322, 323, 347
_STRIPS, _TILES = (273, 279), (324, 325)
_NONE, _LZW, _JPEG, _DEFLATE, _PACKBITS, _OLD_DEFLATE = 1, 5, 7, 8, 32773, 32946
_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_SEPARATE_PLANES, _UNSIGNED = 2, 1
_BITS_OF: Final = {
    _WHITE_IS_ZERO: (1, 4, 8, 16),
    _GREY: (1, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _YCBCR: (8,),
}
_PLAIN_MODES: Final = ("L", "RGB", "RGBA", "I;16")


def decode(content: bytes, most_pixels: int) -> Decoded:
    """Return the page of a TIFF, upright, as grey of 8 or 16 bits, RGB or RGBA.

    Raises:
        UnusableImageError: The file has several pages, another coding, too many pixels, or is damaged.
    """
    pages = tiff_header.pages(content)
    if pages > 1:
        raise _unsupported("one page", f"{pages:,}", "save the one that you mean as a file of its own")
    with Image.open(io.BytesIO(content), formats=["TIFF"]) as image:
        check_size(*image.size, most_pixels=most_pixels)
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        _check_coding(tags)
        _check_data(content, tags)
        white_is_zero, profile = tags[_PHOTOMETRIC] == _WHITE_IS_ZERO, image.info.get("icc_profile")
        image.info.pop("xmp", None)  # or Pillow would turn the picture as XMP says; the TIFF's own tag decides
        image.load()
        found = _plain(image, white_is_zero)
    return Decoded(found, found.width, found.height, profile)


def _check_coding(tags: Any) -> None:
    compression, colour = tags.get(_COMPRESSION, _NONE), tags.get(_PHOTOMETRIC)
    bits = set(tags.get(_BITS, (1,)))
    expected = {
        "no compression, or LZW, deflate, JPEG or PackBits": compression
        in (_NONE, _LZW, _JPEG, _DEFLATE, _PACKBITS, _OLD_DEFLATE),
        "grey, RGB or a palette": colour in _BITS_OF and (colour != _YCBCR or compression == _JPEG),
        "samples of 8 or 16 bits": len(bits) == 1 and bits <= set(_BITS_OF.get(colour, bits)),
        "unsigned samples": set(tags.get(_FORMAT, (_UNSIGNED,))) == {_UNSIGNED},
    }
    for what, met in expected.items():
        if not met:
            raise _unsupported(what, "another coding", "save it as RGB of 8 bits, or as PNG")


def _check_data(content: bytes, tags: Any) -> None:
    """Check that all strips or tiles are there and whole; libtiff leaves missing ones black, and hides some damage."""
    offsets, counts = (tags.get(tag, ()) for tag in (_TILES if _TILES[0] in tags else _STRIPS))
    if len(offsets) != len(counts) or len(offsets) < _parts(tags):
        raise unreadable(f"expected a TIFF with {_parts(tags):,} strips or tiles, got {len(offsets):,}; save it again")
    for offset, count in zip(offsets, counts, strict=True):
        if not count or offset + count > len(content):
            raise unreadable("expected a complete TIFF, got one that is cut off; save it again")
    check = _CHECKS.get(tags.get(_COMPRESSION, _NONE))
    if check is None:
        return
    view = memoryview(content)
    for offset, count in zip(offsets, counts, strict=True):
        try:
            check(view[offset : offset + count], tags)
        except (ValueError, zlib.error):
            raise unreadable("expected a complete TIFF, got one with damaged pixels; save it again") from None


def _parts(tags: Any) -> int:
    """Return the number of strips or tiles."""
    width, height = tags[_WIDTH], tags[_HEIGHT]
    planes = tags.get(_SAMPLES, 1) if tags.get(_PLANAR, 1) == _SEPARATE_PLANES else 1
    if _TILES[0] in tags:
        return int(math.ceil(width / tags[_TILE_WIDTH]) * math.ceil(height / tags[_TILE_HEIGHT]) * planes)
    return int(math.ceil(height / min(tags.get(_ROWS_PER_STRIP, height), height)) * planes)


def _check_deflated(data: memoryview, _tags: Any) -> None:
    """Inflate ``data`` piece by piece up to its checksum."""
    inflater = zlib.decompressobj()
    rest: bytes | memoryview = data
    while not inflater.eof:
        if not inflater.decompress(rest, 1 << 20) and not inflater.eof:
            raise ValueError("the data end before their checksum")
        rest = inflater.unconsumed_tail


def _check_jpeg(data: memoryview, tags: Any) -> None:
    tables = tags.get(_JPEG_TABLES, b"")
    stream = tables[:-2] + bytes(data[2:]) if tables else bytes(data)  # without the end of one, the start of the other
    simplejpeg.decode_jpeg(stream, "GRAY" if tags[_PHOTOMETRIC] in (_WHITE_IS_ZERO, _GREY) else "RGB", strict=True)


_CHECKS: Final = {_DEFLATE: _check_deflated, _OLD_DEFLATE: _check_deflated, _JPEG: _check_jpeg}


def _plain(image: Image.Image, white_is_zero: bool) -> Image.Image:
    """Return ``image`` in one of ``_PLAIN_MODES``."""
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16)
        return Image.fromarray(0xFFFF - grey if white_is_zero else grey)  # Pillow inverts grey of 8 bits only
    if image.mode in _PLAIN_MODES:
        return image
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert({"1": "L", "LA": "RGBA"}.get(image.mode, "RGB"))


def _unsupported(expected: str, got: str, do: str) -> UnusableImageError:
    return UnusableImageError(ErrorCode.IMAGE_UNSUPPORTED, f"expected a TIFF with {expected}, got {got}; {do}")
