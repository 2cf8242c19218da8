"""Decodes run-length encoded frames; runs in a bounded child process, since runs of single bytes take seconds.

Source: DICOM PS3.5, annex G.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from buckler.modality.picture.child import Output
from buckler.modality.picture.dicom.refusals import unreadable

_HEADER = 64
_RESERVED = 128  # a code that stands for nothing


def decode(stream: bytes, columns: int, rows: int, samples: int, allocated: int) -> Output:
    """Return the cells of a frame, in which each byte of each sample has a segment of its own.

    Args:
        stream: The frame.
        columns, rows: Sides in pixels.
        samples: Samples of a pixel.
        allocated: Bits of a cell.

    Raises:
        UnusableImageError: A segment is missing, or ends before the picture does.
    """
    width = allocated // 8
    if len(stream) < _HEADER:
        raise unreadable(f"a header of {_HEADER} bytes in the run-length encoded PixelData", f"{len(stream)} bytes")
    count, *offsets = struct.unpack("<16I", stream[:_HEADER])
    if not width or count != samples * width:
        raise unreadable(f"{samples * width} run-length encoded segments in PixelData", f"{count}")
    size = rows * columns
    planes = np.empty((samples, size, width), np.uint8)
    ends = [*offsets[1:count], len(stream)]
    for index, (start, end) in enumerate(zip(offsets[:count], ends, strict=True)):
        # The most significant byte comes first.
        planes[index // width, :, width - 1 - index % width] = _segment(stream, start, end, size, index)
    cells = planes.view(f"<u{width}").reshape(samples, rows, columns)
    return Output(cells[0] if samples == 1 else cells.transpose(1, 2, 0))


def _segment(stream: bytes, start: int, end: int, size: int, index: int) -> NDArray[np.uint8]:
    if not _HEADER <= start <= end <= len(stream):
        raise unreadable("run-length encoded segments one behind the other in PixelData", "another order")
    decoded = _expanded(stream[start:end], size)
    # Padding to an even length may add a byte, which the picture does not have.
    if not size <= len(decoded) <= size + 1:
        raise unreadable(
            f"{size:,} bytes in segment {index + 1} of the run-length encoded PixelData", f"{len(decoded):,}"
        )
    return np.frombuffer(decoded, np.uint8)[:size]


def _expanded(segment: bytes, size: int) -> bytearray:
    """Return at least ``size`` bytes, if the segment has them: copies of one byte, and bytes as they are."""
    decoded, place, end = bytearray(), 0, len(segment)
    while place < end and len(decoded) < size:
        code = segment[place]
        if code < _RESERVED:
            decoded += segment[place + 1 : place + 2 + code]
            place += 2 + code
        elif code > _RESERVED:
            decoded += segment[place + 1 : place + 2] * (257 - code)
            place += 2
        else:
            place += 1
    return decoded
