"""Finds the frames of compressed pixel data, which consist of fragments.

Offset tables are not needed for one frame and often wrong, so that they are only used where nothing else tells frames
apart.

Source: DICOM PS3.5, annex A.4.
"""

import struct
from dataclasses import dataclass

from buckler.modality.picture.dicom.refusals import unreadable, unsupported

_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = 0xFFFFFFFF
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
MAX_FRAGMENTS = 100_000
"""Maximum number of fragments of a file; a video of an hour has as many frames."""


@dataclass(frozen=True, slots=True)
class _Fragment:
    offset: int  # from the first fragment, as offset tables count
    data: memoryview


def frame(pixels: memoryview, number: int, frames: int) -> bytes:
    """Return the compressed bytes of one frame.

    Args:
        pixels: The value of the pixel data: an offset table, then the fragments. The closing delimiter may be missing.
        number: Number of the frame, from 0.
        frames: Number of frames that the header states.

    Raises:
        UnusableImageError: A fragment is cut off, or frames cannot be told apart.
    """
    table, fragments = _fragments(pixels)
    groups = _grouped(table, fragments, frames)
    if len(groups) != frames:
        raise unreadable(f"NumberOfFrames as in PixelData ({len(groups)} frames)", f"{frames}")
    return b"".join(each.data for each in groups[number])


def _fragments(pixels: memoryview) -> tuple[memoryview, list[_Fragment]]:
    found: list[_Fragment] = []
    table, place, first = None, 0, 0
    while place + 8 <= len(pixels):
        tag, (length,) = bytes(pixels[place : place + 4]), struct.unpack("<I", pixels[place + 4 : place + 8])
        if tag != _ITEM:
            # A fragment of odd length may be followed by a byte that its length does not count.
            if found and tag != _DELIMITER and bytes(pixels[place + 1 : place + 5]) in (_ITEM, _DELIMITER):
                place += 1
                continue
            break  # the delimiter, or what follows the last fragment of a file without one
        if length == _UNDEFINED:
            raise unsupported("fragments of stated length in PixelData", "one of undefined length")
        data = pixels[place + 8 : place + 8 + length]
        if len(data) < length - 2:  # two bytes are an end marker or padding at most; the decoder tells
            raise unreadable(f"{length:,} bytes in a fragment of PixelData", f"{len(data):,}; the file is cut off")
        if table is None and bytes(data[:8]).startswith(_STARTS):
            table, first = memoryview(b""), place  # the table is missing, not empty
            found.append(_Fragment(0, data))
        elif table is None:
            table, first = data, place + 8 + length
        else:
            found.append(_Fragment(place - first, data))
        if len(found) > MAX_FRAGMENTS:
            raise unsupported(f"at most {MAX_FRAGMENTS:,} fragments in PixelData", "more")
        place += 8 + length
    if table is None or not found:
        raise unreadable("compressed fragments in PixelData", "none")
    return table, found


def _grouped(table: memoryview, fragments: list[_Fragment], frames: int) -> list[list[_Fragment]]:
    """Return the fragments of each frame."""
    starts = [index for index, each in enumerate(fragments) if bytes(each.data[:8]).startswith(_STARTS)]
    if starts and starts[0] == 0:
        # A fragment inside a frame cannot begin like a frame: markers do not occur in compressed data.
        return _split(fragments, starts)
    if len(fragments) == frames:
        return [[each] for each in fragments]
    if frames == 1:
        return [fragments]
    offsets = struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4])
    places = {each.offset: index for index, each in enumerate(fragments)}
    if len(offsets) == frames and all(offset in places for offset in offsets):
        return _split(fragments, [places[offset] for offset in offsets])
    raise unreadable("an offset table or one fragment for each frame in PixelData", "neither")


def _split(fragments: list[_Fragment], starts: list[int]) -> list[list[_Fragment]]:
    return [fragments[start:end] for start, end in zip(starts, [*starts[1:], len(fragments)], strict=True)]
