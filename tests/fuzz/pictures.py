"""Fuzz targets: the decoder of uploads, with a small limit of pixels, so that inputs are decoded quickly."""

import io
import struct
import warnings
import zlib

import numpy as np

# The decoder loads them when it needs them, which is too late for a fuzzer that instruments imports.
import pydicom.encaps
import pydicom.filereader
import pydicom.pixels.processing
import pydicom.pixels.utils  # noqa: F401
from PIL import Image

from buckler.error_codes import Group
from buckler.errors import UnusableImageError
from buckler.modality.base import Upload
from buckler.modality.picture import uploads
from tests.fuzz.contract import require
from tests.fuzz.mutation import of_parts

MOST_PIXELS = 1_000_000
SIZE, SHOWN = 16, 32
LONGEST_MESSAGE = 300  # none quotes the file

warnings.simplefilter("ignore")  # Pillow and pydicom warn about damaged files


def jpeg(data: bytes) -> bool:
    """A picture that begins like a JPEG."""
    return _check(data, "JPEG")


def png(data: bytes) -> bool:
    """A picture that begins like a PNG."""
    return _check(data, "PNG")


def dicom(data: bytes) -> bool:
    """A picture that begins like a DICOM file."""
    return _decoded(data) is not None


def _check(data: bytes, name: str) -> bool:
    upload = _decoded(data)
    if upload is None:
        return False
    try:
        declared = Image.open(io.BytesIO(data), formats=[name])
    except Exception:
        return True  # Pillow refuses some pictures for flaws of their metadata
    require(sorted(declared.size) == sorted((upload.width or 0, upload.height or 0)), "other sides than declared")
    return True


def _decoded(data: bytes) -> Upload | None:
    """Return the decoded picture, or None if it is refused as documented."""
    try:
        upload = uploads.load(data, size=SIZE, shown=SHOWN, most_pixels=MOST_PIXELS)
    except UnusableImageError as error:
        require(error.code.group is Group.IMAGE, f"unexpected code {error.code}")
        require(error.code.status < 500, f"unexpected status {error.code.status}")
        require(len(str(error)) <= LONGEST_MESSAGE and str(error).isascii(), "the message quotes the file")
        return None
    pixels = upload.values
    require((pixels.shape, pixels.dtype) == ((SIZE, SIZE, 3), np.float32), f"got {(pixels.shape, pixels.dtype)}")
    require(pixels.min() >= 0 and pixels.max() <= 1, "pixels outside 0..1")
    require(upload.width and upload.height and upload.width * upload.height <= MOST_PIXELS, "more pixels than allowed")
    require(upload.size_bytes == len(data), "another size than that of the file")
    shown = upload.shown
    require(shown and max(shown.size) <= SHOWN and shown.mode == "RGB", "another picture for people")
    require(shown and not shown.info, "metadata are kept")
    return upload


def _jpeg_segments(data: bytes) -> list[bytes]:
    """Return the segments of a JPEG; data of a scan belong to its segment."""
    starts = [0]
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 1 < len(data):
        if data[place + 1] not in (0, 0xFF) and not 0xD0 <= data[place + 1] <= 0xD7:
            starts.append(place)
            length = int.from_bytes(data[place + 2 : place + 4], "big")
            place += length if length >= 2 and data[place + 1] not in (0xD8, 0xD9) else 0
        place += 2
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _png_chunks(data: bytes) -> list[bytes]:
    """Return the signature and the chunks of a PNG."""
    parts, place = [data[:8]], 8
    while place < len(data):
        length = 12 + int.from_bytes(data[place : place + 4], "big")
        parts.append(data[place : place + length])
        place += length
    return parts


def _join_chunks(parts: list[bytes]) -> bytes:
    """Return the PNG with correct lengths and checksums."""
    signature, *chunks = parts
    return signature + b"".join(map(_corrected, chunks))


def _corrected(chunk: bytes) -> bytes:
    if len(chunk) < 12:
        return chunk
    named = chunk[4:-4]
    return struct.pack(">I", len(named) - 4) + named + struct.pack(">I", zlib.crc32(named))


def _dicom_elements(data: bytes) -> list[bytes]:
    """Return the preamble and the elements of a DICOM file with explicit value representations."""
    parts, place = [data[:132]], 132
    while place + 8 <= len(data):
        if data[place + 4 : place + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
            length = 12 + int.from_bytes(data[place + 8 : place + 12], "little")
        else:
            length = 8 + int.from_bytes(data[place + 6 : place + 8], "little")
        parts.append(data[place : place + length])
        place += length
    return [*parts, data[place:]]


MUTATORS = {
    "jpeg": of_parts(_jpeg_segments),
    "png": of_parts(_png_chunks, _join_chunks),
    "dicom": of_parts(_dicom_elements),
}
