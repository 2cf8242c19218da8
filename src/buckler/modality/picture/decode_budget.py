"""Bounds time and memory of decoding before a picture is decoded: its sides, parts, and the passes over its pixels.

Limits on pixels and bytes do not bound that time. Pillow parses everything before the pixels part by part: 10 MB of
empty JPEG segments take 8 s. A progressive JPEG may update all pixels any number of times: 200 passes over 50
megapixels fit into 0.2 MB and take 10 s.
"""

import re
from dataclasses import dataclass

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError

MAX_PIXELS = 50_000_000
"""Maximum number of pixels, checked in the header before any pixel is decoded; enough for a 50-megapixel phone."""

MAX_SIDE = 65_535
"""Maximum width and height. A JPEG's header allows no more; a PNG of 1 by millions of pixels is slow to decode."""

MAX_PARTS = 20_000
"""Maximum number of chunks of a PNG, or of segments of a JPEG and bytes between them. A camera writes tens of segments;
a PNG encoder writes one chunk per 8 kB."""

MAX_PASSED_PIXELS = 1_000_000_000
"""Maximum of pixels times passes. Progressive JPEGs usually have 10 passes: at most 100 megapixels."""

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = {0x01, *range(0xD0, _START_OF_SCAN)}
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # restart markers are part of the data


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Cost of decoding a file.

    Attributes:
        parts: Number of parts, as ``MAX_PARTS`` defines them; counting stops beyond that limit.
        passes: Number of passes over all pixels, at least 1.
    """

    parts: int
    passes: int


def png_cost(content: bytes) -> DecodeCost:
    """Return the cost of a PNG: its chunks up to the end chunk, one pass."""
    parts, position = 0, 8
    while position < len(content) and parts <= MAX_PARTS:
        parts += 1
        if content[position + 4 : position + 8] == b"IEND":
            break
        position += 12 + int.from_bytes(content[position : position + 4], "big")
    return DecodeCost(parts, 1)


def jpeg_cost(content: bytes) -> DecodeCost:
    """Return the cost of a JPEG: its segments, stray bytes and scans up to the end of the picture.

    Files that violate the standard are counted as Pillow and libjpeg read them: both skip stray bytes between
    segments. libjpeg does so at once; Pillow, which reads the file up to the first scan, goes byte by byte.

    Source: ITU-T T.81, annex B.
    """
    parts = scans = 0
    position = 2
    while parts <= MAX_PARTS:
        found = (_MARKER_AFTER_DATA if scans else _MARKER).search(content, position)
        if not found:
            # Pillow reads stray bytes up to the end of the file, in search of a scan.
            parts += 0 if scans else len(content) - position
            break
        marker = content[found.end() - 1]
        parts += 1 if scans else 1 + found.start() - position
        if marker == _END_OF_IMAGE and scans:
            break
        scans += marker == _START_OF_SCAN
        position = found.end()
        if marker not in _WITHOUT_LENGTH:
            position += max(2, int.from_bytes(content[position : position + 2], "big"))
    return DecodeCost(parts, max(1, scans))


def check_parts(name: str, content: bytes) -> DecodeCost:
    """Return the cost of decoding ``content``, a ``JPEG`` or ``PNG`` by ``name``.

    Raises:
        UnusableImageError: It has too many parts (``image_unreadable``).
    """
    cost = _COSTS[name](content)
    if cost.parts > MAX_PARTS:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNREADABLE,
            f"expected a {name} of at most {MAX_PARTS:,} parts, got more; save the picture again",
        )
    return cost


_COSTS = {"JPEG": jpeg_cost, "PNG": png_cost}


def check_size(width: int, height: int, passes: int = 1, *, most_pixels: int = MAX_PIXELS) -> None:
    """Check the size that a picture's header states, and the passes over its pixels.

    Raises:
        UnusableImageError: The picture is too large (``imagetoo_large``) or has too many passes
            (``image_unreadable``).
    """
    if width * height > most_pixels:
        raise too_large(f"{width} x {height}", most_pixels)
    if max(width, height) > MAX_SIDE:
        raise UnusableImageError(
            ErrorCode.IMAGE_TOO_LARGE, f"expected sides of at most {MAX_SIDE:,} pixels, got {width} x {height}"
        )
    if width * height * passes > MAX_PASSED_PIXELS:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNREADABLE,
            f"expected fewer scans over {width} x {height} pixels, got {passes}; save the picture again",
        )


def too_large(what: str, most_pixels: int = MAX_PIXELS) -> UnusableImageError:
    """Return the error of a picture of ``what`` size."""
    return UnusableImageError(
        ErrorCode.IMAGE_TOO_LARGE, f"expected at most {most_pixels:,} pixels, got {what}; send a smaller picture"
    )
