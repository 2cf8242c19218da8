"""Pictures byte by byte: PNG from chunks and JPEG from segments, with correct or wrong fields."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes = b"", *, crc: int | None = None, length: int | None = None) -> bytes:
    """Return a PNG chunk; ``crc`` and ``length`` replace the correct values."""
    check = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content) if length is None else length) + kind + content + struct.pack(">I", check)


def header(width: int, height: int, depth: int = 8, colour: int = 2, *rest: int) -> bytes:
    """Return an IHDR chunk; ``rest`` is compression, filter and interlace."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, *(rest or (0, 0, 0))))


def rows(width: int, height: int, *, channels: int = 3, depth: int = 8) -> bytes:
    """Return the compressed black rows of a PNG."""
    stream = zlib.compressobj(9)
    row = bytes(1 + (width * channels * depth + 7) // 8)
    block = max(1, 1_000_000 // len(row))
    full, left = divmod(height, block)
    return b"".join(stream.compress(row * block) for _ in range(full)) + stream.compress(row * left) + stream.flush()


def png(*between: bytes, width: int = 16, height: int = 16, end: bytes = chunk(b"IEND")) -> bytes:
    """Return a whole PNG with ``between`` before its pixels."""
    return PNG + header(width, height) + b"".join(between) + chunk(b"IDAT", rows(width, height)) + end


def noise(mode: str = "RGB", side: int = 24) -> Image.Image:
    """Return a picture of noise."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)).convert(mode)


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Return the bytes of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def segment(marker: int, content: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a JPEG segment; ``length`` replaces the correct value."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2 if length is None else length) + content


def after_start(inserted: bytes, picture: bytes | None = None) -> bytes:
    """Return a JPEG with ``inserted`` after its first two bytes."""
    picture = saved(noise()) if picture is None else picture
    return picture[:2] + inserted + picture[2:]


def repeated_scan(picture: bytes, times: int) -> bytes:
    """Return a JPEG whose last scan is repeated ``times`` more times."""
    scan = picture[picture.rfind(b"\xff\xda") : -2]
    return picture[:-2] + scan * times + picture[-2:]


def exif(entries: bytes, count: int, *, order: bytes = b"MM\0*\0\0\0\x08") -> bytes:
    """Return an EXIF segment with raw directory entries."""
    return segment(0xE1, b"Exif\0\0" + order + struct.pack(">H", count) + entries + bytes(4))


def png_boundaries(content: bytes) -> Iterator[int]:
    """Yield the offsets of chunks, their names, contents and checksums."""
    position = len(PNG)
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        yield from (position, position + 4, position + 8, position + 8 + length)
        position += 12 + length


def jpeg_boundaries(content: bytes) -> Iterator[int]:
    """Yield the offsets of segments up to the first scan, of their lengths and contents."""
    position = 2
    while content[position : position + 2] != b"\xff\xda":
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        yield from (position, position + 1, position + 2, position + 4)
        position += 2 + length
    yield from (position, position + 2, position + 4, position + 8, position + 12, len(content) - 2, len(content) - 1)
