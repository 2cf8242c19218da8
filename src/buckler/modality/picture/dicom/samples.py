"""Reads uncompressed and run-length encoded pixel data as the cells of the header.

Source: DICOM PS3.3, C.7.6.3.1; PS3.5, section 8 (native encoding) and annex G (run-length encoding).
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buckler.modality.picture.dicom.header import Header
from buckler.modality.picture.dicom.refusals import unreadable

Cells = NDArray[np.unsignedinteger[Any]]
"""Cells of a picture, ``(rows, columns)`` or ``(rows, columns, 3)``: uint8, uint16 or uint32."""

_RLE_HEADER = 64


def frame_bits(header: Header) -> int:
    """Return the size of an uncompressed frame in bits; frames of single bits may begin inside a byte."""
    samples = 2 if header.photometric == "YBR_FULL_422" else header.samples
    columns = header.columns + header.columns % 2 if samples == 2 else header.columns
    return header.rows * columns * samples * header.allocated


def end_of_frame(header: Header, number: int) -> int:
    """Return the bytes of pixel data up to the end of a frame, counted from 0."""
    return -(-frame_bits(header) * (number + 1) // 8)


def check_length(header: Header, length: int) -> None:
    """Compare the stated length of uncompressed pixel data with that of the header's frames.

    Raises:
        UnusableImageError: Bytes are missing, or there are so many more that the header describes other pixels.
    """
    frame, expected = end_of_frame(header, 0), end_of_frame(header, header.frames - 1)
    if header.photometric == "YBR_FULL_422" and length // 2 * 2 >= header.rows * header.columns * 3 * header.frames:
        raise unreadable(
            "a length of PixelData that fits PhotometricInterpretation YBR_FULL_422",
            f"{length:,} bytes, the length of colours without subsampling",
        )
    if length < expected:
        raise unreadable(f"{expected:,} bytes in PixelData", f"{length:,}")
    # Some writers pad to blocks; a whole frame more, or a larger part of one, are other pixels than the header states.
    if length - expected > max(1, min(frame // 10, 4096)):
        raise unreadable(
            f"{expected:,} bytes in PixelData as Rows, Columns, BitsAllocated and NumberOfFrames state",
            f"{length:,}",
        )


def native(data: memoryview, header: Header, number: int, *, big_endian: bool, words: bool) -> Cells:
    """Return the cells of one frame of uncompressed pixel data; ``data`` ends with this frame or later.

    Args:
        data: The pixel data, from the first frame.
        header: The header.
        number: Number of the frame, from 0.
        big_endian: Byte order.
        words: Bytes are stored as 16-bit words.

    Raises:
        UnusableImageError: The frame is cut off.
    """
    size = frame_bits(header)
    if len(data) < end_of_frame(header, number):
        raise unreadable(f"{end_of_frame(header, number):,} bytes in PixelData", f"{len(data):,}; the file is cut off")
    if header.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[size * number : size * (number + 1)].reshape(header.rows, header.columns)
    if big_endian and words and header.allocated == 8:
        data = memoryview(np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes())
    frame = data[size // 8 * number : size // 8 * (number + 1)]
    cells = np.frombuffer(frame, f"{'>' if big_endian else '<'}u{header.allocated // 8}")
    if header.photometric == "YBR_FULL_422":
        return _from_pairs(cells, header)
    if header.samples == 3 and header.by_plane:
        return cells.reshape(3, header.rows, header.columns).transpose(1, 2, 0)
    shape = (header.rows, header.columns)
    return cells.reshape(shape if header.samples == 1 else (*shape, 3))


def _from_pairs(cells: Cells, header: Header) -> Cells:
    """Return full colours from pairs of pixels: two of brightness, then one of each colour difference."""
    pairs = cells.reshape(header.rows, -1, 4)
    full = np.empty((header.rows, pairs.shape[1], 2, 3), cells.dtype)
    full[..., 0] = pairs[..., :2]
    full[..., 1:] = pairs[..., None, 2:]
    return full.reshape(header.rows, -1, 3)[:, : header.columns]


def run_length(data: bytes, header: Header) -> Cells:
    """Return the cells of a run-length encoded frame: each byte of each sample has a segment of its own.

    Raises:
        UnusableImageError: A segment is missing, or ends before the picture does.
    """
    width = header.allocated // 8
    expected = header.samples * width
    if len(data) < _RLE_HEADER:
        raise unreadable(f"a header of {_RLE_HEADER} bytes in the run-length encoded PixelData", f"{len(data)} bytes")
    count, *offsets = struct.unpack("<16I", data[:_RLE_HEADER])
    if count != expected or header.allocated == 1:
        raise unreadable(f"{expected} run-length encoded segments in PixelData", f"{count}")
    size = header.rows * header.columns
    planes = np.empty((header.samples, size, width), np.uint8)
    ends = [*offsets[1:count], len(data)]
    for index, (start, end) in enumerate(zip(offsets[:count], ends, strict=True)):
        # The most significant byte comes first.
        planes[index // width, :, width - 1 - index % width] = _segment(data, start, end, size, index)
    cells = planes.view(f"<u{width}").reshape(header.samples, header.rows, header.columns)
    return cells[0] if header.samples == 1 else cells.transpose(1, 2, 0)


def _segment(data: bytes, start: int, end: int, size: int, index: int) -> NDArray[np.uint8]:
    if not _RLE_HEADER <= start <= end <= len(data):
        raise unreadable("run-length encoded segments one behind the other in PixelData", "another order")
    decoded, length = bytearray(), 0
    for run in _runs(data, start, end):
        length += len(run)
        decoded += run
        if length >= size:
            break
    # Padding to an even length may add a byte, which the picture does not have.
    if not size <= length <= size + 1:
        raise unreadable(f"{size:,} bytes in segment {index + 1} of the run-length encoded PixelData", f"{length:,}")
    return np.frombuffer(decoded, np.uint8)[:size]


def _runs(data: bytes, place: int, end: int) -> Iterator[bytes]:
    while place < end:
        code = data[place]
        if code < 128:
            run = data[place + 1 : min(place + 2 + code, end)]
            if len(run) < code + 1:
                yield run
                return
            yield run
            place += 2 + code
        elif code > 128:
            yield data[place + 1 : min(place + 2, end)] * (257 - code)
            place += 2
        else:
            place += 1  # reserved: nothing
