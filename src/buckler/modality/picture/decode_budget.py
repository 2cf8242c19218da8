"""What a decoder would have to go through, counted before it does: parts of a file, and passes over its pixels.

Pixels and bytes alone do not bound the time that a picture takes. Pillow reads what stands before them part by part:
10 MB of empty JPEG segments take it 8 s. And a progressive JPEG may go over all its pixels any number of times: 0.2 MB
for 200 passes over 50 megapixels, 10 s.
"""

import re
from dataclasses import dataclass

MAX_PARTS = 20_000
"""Chunks of a PNG; segments of a JPEG, and bytes between them. A camera writes tens, a PNG one chunk for 8 kB."""

MAX_PASSED_PIXELS = 1_000_000_000
"""Pixels times passes over them. The usual progressive JPEG has 10 passes, which leaves 100 megapixels."""

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = {0x01, *range(0xD0, _START_OF_SCAN)}
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # restarts are part of the data


@dataclass(frozen=True, slots=True)
class Structure:
    """What a file is made of; counting stops just beyond ``MAX_PARTS``.

    Attributes:
        parts: See ``MAX_PARTS``.
        passes: Over all pixels, at least 1.
    """

    parts: int
    passes: int


def of_png(content: bytes) -> Structure:
    """Count the chunks up to the end chunk."""
    parts, position = 0, 8
    while position < len(content) and parts <= MAX_PARTS:
        parts += 1
        if content[position + 4 : position + 8] == b"IEND":
            break
        position += 12 + int.from_bytes(content[position : position + 4], "big")
    return Structure(parts, 1)


def of_jpeg(content: bytes) -> Structure:
    """Count segments, loose bytes and scans up to the end of the picture.

    Source: ITU-T T.81, annex B, and what Pillow and libjpeg do where a file does not keep to it: both skip bytes that
        are no marker, libjpeg in no time, Pillow, which reads up to the first scan, one by one.
    """
    parts = scans = 0
    position = 2
    while parts <= MAX_PARTS:
        found = (_MARKER_AFTER_DATA if scans else _MARKER).search(content, position)
        if not found:
            # Pillow reads loose bytes to the end of the file in search of a scan.
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
    return Structure(parts, max(1, scans))
