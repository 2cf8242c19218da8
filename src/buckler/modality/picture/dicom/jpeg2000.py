"""Reads the header of a JPEG 2000 codestream, and checks that the codestream is whole.

Source: ITU-T T.800, annexes A (codestream) and I (JP2 file format).
"""

import struct
from collections import Counter
from dataclasses import dataclass

from buckler.errors import UnusableImageError
from buckler.modality.picture.dicom.refusals import unreadable, unsupported

CODESTREAM, JP2 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
_COD, _SOT, _SHORTEST_PART = 0xFF52, 0xFF90, 14
_CODESTREAM_BOX, _HEADER_BOX, _COLOUR_BOX, _SYCC = b"jp2c", b"jp2h", b"colr", 18


@dataclass(frozen=True, slots=True)
class Codestream:
    """A JPEG 2000 codestream.

    Attributes:
        data: The codestream, without the boxes around it.
        columns, rows: Size in pixels.
        components: Number of components.
        precision: Bits of a sample.
        signed: Samples are signed.
        transformed: The codestream's own colour transform is used, which makes RGB.
        sycc: The file around the codestream states YCbCr.
    """

    data: bytes
    columns: int
    rows: int
    components: int
    precision: int
    signed: bool
    transformed: bool
    sycc: bool


def read(stream: bytes) -> Codestream:
    """Return the header of a stream, a codestream or a JP2 file.

    Raises:
        UnusableImageError: It is cut off, damaged, or has components of different kinds.
    """
    data, sycc = _unboxed(stream) if stream.startswith(JP2) else (stream, False)
    if not data.startswith(CODESTREAM):
        raise unreadable("a JPEG 2000 codestream in PixelData", "other bytes")
    try:
        return _parsed(data, sycc)
    except (struct.error, IndexError):
        raise _cut_off() from None


def _cut_off() -> UnusableImageError:
    return unreadable("a whole JPEG 2000 codestream in PixelData", "one that is cut off or damaged")


def _unboxed(stream: bytes) -> tuple[bytes, bool]:
    """Return the codestream in a JP2 file, and whether the file states YCbCr."""
    place, sycc = 0, False
    while place + 8 <= len(stream):
        length, kind = struct.unpack(">I4s", stream[place : place + 8])
        if length == 1:
            raise unsupported("boxes of less than 4 GB around a JPEG 2000 codestream", "a larger one")
        end = place + length if length else len(stream)
        if kind == _CODESTREAM_BOX:
            return stream[place + 8 : end], sycc
        if kind == _COLOUR_BOX and stream[place + 8] == 1:
            sycc = int.from_bytes(stream[place + 11 : place + 15], "big") == _SYCC
        if kind == b"pclr":
            raise unsupported("a JPEG 2000 stream without palette", "one with a palette")
        place = place + 8 if kind == _HEADER_BOX else max(end, place + 8)
    raise _cut_off()


def _parsed(data: bytes, sycc: bool) -> Codestream:
    right, bottom, left, top, tile_width, tile_height, tiles_left, tiles_top = struct.unpack(">8I", data[8:40])
    (components,) = struct.unpack(">H", data[40:42])
    kinds = {data[42 + 3 * index : 45 + 3 * index] for index in range(components)}
    if len(kinds) != 1:
        raise unsupported("JPEG 2000 components of one kind in PixelData", "different ones")
    depth, across, down = kinds.pop()
    if (across, down) != (1, 1):
        raise unsupported("JPEG 2000 components of full resolution in PixelData", "subsampled ones")
    if not tile_width or not tile_height:
        raise _cut_off()
    tiles = -(-(right - tiles_left) // tile_width) * -(-(bottom - tiles_top) // tile_height)
    place, transformed = _main_header(data)
    _check_tiles(data, place, tiles)
    return Codestream(
        data, right - left, bottom - top, components, (depth & 0x7F) + 1, depth >= 0x80, transformed, sycc
    )


def _main_header(data: bytes) -> tuple[int, bool]:
    """Return the place of the first tile-part, and whether the colour transform is used."""
    place, transformed = 2, None
    while (marker := int.from_bytes(data[place : place + 2], "big")) != _SOT:
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        if marker == _COD:
            transformed = data[place + 8] != 0
        place += 2 + max(2, length)
    if transformed is None:
        raise _cut_off()
    return place, transformed


def _check_tiles(data: bytes, place: int, tiles: int) -> None:
    """Walk over the tile-parts: their stated lengths must lie in ``data``, and no tile may be missing.

    Decoders leave missing tiles black.
    """
    parts: Counter[int] = Counter()
    expected: dict[int, int] = {}
    while int.from_bytes(data[place : place + 2], "big") == _SOT:
        tile, length, _, count = struct.unpack(">HIBB", data[place + 4 : place + 12])
        parts[tile] += 1
        expected[tile] = max(count, expected.get(tile, 0))
        length = length or len(data) - place  # the last tile-part may reach to the end marker
        if length < _SHORTEST_PART or place + length > len(data):
            raise _cut_off()
        place += length
    # Without the end marker, only the stated numbers of parts tell that no part is missing.
    ended = data[place:].startswith(b"\xff\xd9") or data.rstrip(b"\0").endswith(b"\xff\xd9")
    if len(parts) != tiles or any(parts[tile] < (expected[tile] or ended or 2) for tile in parts):
        raise _cut_off()
