"""Reads the chunks of a PNG, and checks that the data of its pixels are complete and unchanged.

Pillow checks neither the checksum of the pixels nor their number, and refuses pictures for flaws of chunks that have
nothing to do with pixels. So the chunks are read here, and Pillow gets only those that it needs.

Source: PNG (third edition), sections 5, 7.2 and 13.
"""

import io
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from buckler.errors import UnusableImageError
from buckler.modality.picture.decode_budget import MAX_PARTS
from buckler.modality.picture.faults import unreadable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3

_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, 4: 2, 6: 4}
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_USED = (b"tRNS", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf")
_AFTER_PIXELS = (b"eXIf",)  # the others count only before the pixels
# Start and step of the columns and rows of each pass of an interlaced picture.
_PASSES = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
_STORED = 65_535  # largest uncompressed block of a zlib stream
_INPUT, _OUTPUT = 16_384, 1 << 20  # bytes of compressed and raw data at once


@dataclass(slots=True)
class PngFile:
    """The structure of a PNG.

    Attributes:
        width, height: Sides in pixels.
        depth: Bits a sample.
        colour: Colour type: ``GREY``, ``RGB``, ``PALETTE``, 4 grey with alpha, 6 RGB with alpha.
        interlaced: Whether its rows come in seven passes.
        palette: Content of the palette chunk; empty without.
        chunks: Content of the other chunks that are used, by name; the first of each name counts.
    """

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    palette: bytes = b""
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    _pixels: list[memoryview] = field(default_factory=list)

    @property
    def raw_bytes(self) -> int:
        """Number of bytes of the pixels before compression, with a byte for the filter of each row."""
        if not self.interlaced:
            return self._rows(self.width, self.height)
        sides = ((-(-(self.width - x) // dx), -(-(self.height - y) // dy)) for x, dx, y, dy in _PASSES)
        return sum(self._rows(width, height) for width, height in sides if width > 0 and height > 0)

    def _rows(self, width: int, height: int) -> int:
        return height * (1 + (width * _CHANNELS[self.colour] * self.depth + 7) // 8)

    def uncompressed(self) -> io.BytesIO:
        """Return the PNG with only the chunks that describe its pixels, which are inflated and checked.

        They are stored uncompressed, so that Pillow does not inflate them a second time.

        Raises:
            UnusableImageError: Data of the pixels are missing, changed or too many (``image_unreadable``).
        """
        header = b"".join(
            [
                self.width.to_bytes(4, "big"),
                self.height.to_bytes(4, "big"),
                bytes([self.depth, self.colour, 0, 0, self.interlaced]),
            ]
        )
        file = io.BytesIO()
        file.write(SIGNATURE + _chunk(b"IHDR", header))
        if self.palette:
            file.write(_chunk(b"PLTE", self.palette))
        alphas = self.chunks.get(b"tRNS", b"")
        if self.colour == PALETTE and 0 < len(alphas) <= len(self.palette) // 3:
            file.write(_chunk(b"tRNS", alphas))
        file.write(_chunk(b"IDAT", b"\x78\x01"))
        for block in self._inflated():
            size = len(block).to_bytes(2, "little")
            complement = (len(block) ^ 0xFFFF).to_bytes(2, "little")
            file.write((5 + len(block)).to_bytes(4, "big") + b"IDAT\0" + size + complement)
            file.write(block)
            file.write(bytes(4))  # Pillow skips this checksum
        file.write(_chunk(b"IEND", b""))
        file.seek(0)
        return file

    def _inflated(self) -> Iterator[memoryview]:
        """Yield the raw rows in blocks."""
        inflater, total, expected = zlib.decompressobj(), 0, self.raw_bytes
        try:
            for piece in self._compressed():
                data = inflater.decompress(piece, _OUTPUT)
                while data:
                    total += len(data)
                    if total > expected:
                        raise damaged("with more data than its pixels need")
                    block = memoryview(data)
                    yield from (block[start : start + _STORED] for start in range(0, len(block), _STORED))
                    data = inflater.decompress(inflater.unconsumed_tail, _OUTPUT)
        except zlib.error as error:
            raise damaged(f"whose data are changed {self._where(self._intact())}") from error
        if total < expected or not inflater.eof:
            raise damaged(f"whose data end {self._where(total)}")

    def _compressed(self, size: int = _INPUT) -> Iterator[memoryview]:
        for data in self._pixels:
            yield from (data[start : start + size] for start in range(0, len(data), size))

    def _intact(self) -> int:
        """Return about how many raw bytes come before the first changed one."""
        inflater, total = zlib.decompressobj(), 0
        with suppress(zlib.error):
            for piece in self._compressed(256):
                total += len(inflater.decompress(piece))
        return total

    def _where(self, total: int) -> str:
        """Return where in the picture the byte ``total`` is."""
        if self.interlaced:
            return f"after about {total / self.raw_bytes:.0%} of them"
        return f"after about {total // self._rows(self.width, 1):,} of {self.height:,} rows"


def damaged(what: str) -> UnusableImageError:
    """Return the error of a PNG; ``what`` follows "got one"."""
    return unreadable(f"expected a complete PNG picture, got one {what}; send the original file again")


def read(content: bytes) -> PngFile:
    """Return the structure of a PNG.

    A wrong checksum is an error only in chunks that decide about pixels; others are then ignored. So are all chunks
    behind the end chunk, and a missing end chunk.

    Raises:
        UnusableImageError: The structure is damaged or has too many parts (``image_unreadable``).
    """
    file: PngFile | None = None
    for name, data, sum_is_right in _chunks(content):
        if name in (*_CRITICAL[:3], b"tRNS") and not sum_is_right:
            raise damaged(f"whose chunk {name.decode()} has a wrong checksum: bytes were changed")
        if file is None:
            if name != b"IHDR":
                raise damaged("without a header")
            file = _header(bytes(data))
        elif name == b"IDAT":
            file._pixels.append(data)
        elif name == b"PLTE" and not file._pixels:
            file.palette = file.palette or _palette(bytes(data))
        elif name in _USED and sum_is_right and (not file._pixels or name in _AFTER_PIXELS):
            file.chunks.setdefault(name, bytes(data))
        elif name == b"IHDR" or (name not in _CRITICAL and not name[0] & 0x20):
            raise damaged("with an unknown or repeated critical chunk")
    if file is None or not file._pixels:
        raise damaged("without pixels")
    if file.colour == PALETTE and not file.palette:
        raise damaged("without palette")
    return file


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Yield name, content, and whether the checksum is right, of each chunk before the end chunk.

    The last one may be cut off. Checksums of chunks that are not used are not computed.
    """
    view, position = memoryview(content), len(SIGNATURE)
    for _ in range(MAX_PARTS):
        length, name = int.from_bytes(content[position : position + 4], "big"), content[position + 4 : position + 8]
        if len(name) < 4 or name == b"IEND":
            return
        if not name.isalpha():
            raise damaged("with a damaged chunk")
        start, position = position + 8, position + 12 + length
        data = view[start : start + length]
        if name == b"IDAT" and position > len(content):
            yield name, data, True  # how much is missing is found by inflating it; it has a checksum of its own
        elif name in _CRITICAL or name in _USED:
            stated = int.from_bytes(content[start + length : position], "big")
            yield name, data, position <= len(content) and stated == zlib.crc32(view[start - 4 : start + length])
        else:
            yield name, data, False
    raise unreadable(f"expected a PNG of at most {MAX_PARTS:,} parts, got more; save the picture again")


def _header(content: bytes) -> PngFile:
    if len(content) != 13:
        raise damaged("with a damaged header")
    width, height = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
    depth, colour, *methods, interlaced = content[8:]
    if not width or not height or depth not in _DEPTHS.get(colour, ()) or any(methods) or interlaced > 1:
        raise damaged("with a damaged header")
    return PngFile(width, height, depth, colour, bool(interlaced))


def _palette(content: bytes) -> bytes:
    if not content or len(content) % 3 or len(content) > 3 * 256:
        raise damaged("with a damaged palette")
    return content


def _chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
