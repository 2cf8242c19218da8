"""Reads uncompressed pixel data as the cells of the header.

Source: DICOM PS3.3, C.7.6.3.1; PS3.5, section 8 (native encoding).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from buckler.modality.picture.dicom.header import Header
from buckler.modality.picture.dicom.refusals import unreadable

Cells = NDArray[np.unsignedinteger[Any]]
"""Cells of a picture, ``(rows, columns)`` or ``(rows, columns, 3)``: uint8, uint16 or uint32."""


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
