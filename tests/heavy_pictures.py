"""Pictures that would need much time or memory to decode."""

import zlib
from collections.abc import Callable

from PIL import Image

from tests.malformed import corpus
from tests.picture_bytes import PNG, after_start, chunk, header, noise, png, repeated_scan, rows, saved, segment


def large(side: int) -> Image.Image:
    """Return a large picture with the detail of a photograph."""
    return noise(side=side // 8).resize((side, side), Image.Resampling.NEAREST)


# Files that need much time or memory, by name; made on demand, because some are as large as a request may be.
HEAVY: dict[str, Callable[[], bytes]] = {
    "png of 169 megapixels": lambda: (
        PNG + header(13_000, 13_000) + chunk(b"IDAT", rows(13_000, 13_000)) + chunk(b"IEND")
    ),
    "png of one pixel by fifty million": lambda: (
        PNG + header(1, 50_000_000) + chunk(b"IDAT", bytes(9)) + chunk(b"IEND")
    ),
    "png of 64 megapixels with transparency": lambda: (
        PNG + header(8000, 8000, 8, 6) + chunk(b"IDAT", rows(8000, 8000, channels=4)) + chunk(b"IEND")
    ),
    "png of 64 megapixels of 16-bit grey": lambda: (
        PNG + header(8000, 8000, 16, 0) + chunk(b"IDAT", rows(8000, 8000, channels=1, depth=16)) + chunk(b"IEND")
    ),
    "png of 800,000 chunks": lambda: png(800_000 * chunk(b"teXt")),
    "png of 60 texts of 1 MB": lambda: png(
        *(chunk(b"zTXt", b"k%d\0\0" % number + zlib.compress(bytes(1_000_000), 9)) for number in range(60))
    ),
    "jpeg of 65535 x 65535": lambda: next(c for n, c in corpus().items() if "65535 x 65535" in n),
    "jpeg of 2,400,000 segments": lambda: after_start(2_400_000 * segment(0xE5)),
    "jpeg with 10 MB of fill bytes": lambda: after_start(10_000_000 * b"\xff"),
    "jpeg with 10 MB of junk": lambda: after_start(segment(0xFE) + 10_000_000 * b"\0"),
    "jpeg of 200 passes over 64 megapixels": lambda: repeated_scan(
        saved(Image.new("L", (8000, 8000)), progressive=True), 200
    ),
    "jpeg of 64 megapixels": lambda: saved(large(8000), quality=90, subsampling=0),
    "progressive jpeg of 64 megapixels": lambda: saved(large(8000), quality=90, subsampling=0, progressive=True),
    "jpeg of 64 megapixels in CMYK": lambda: saved(Image.new("CMYK", (8000, 8000))),
    "ordinary png of 16 bits with transparency": lambda: (
        PNG + header(4080, 3072, 16, 6) + chunk(b"IDAT", rows(4080, 3072, channels=4, depth=16)) + chunk(b"IEND")
    ),
    "ordinary progressive jpeg": lambda: saved(
        large(4080).crop((0, 0, 4080, 3072)), quality=90, subsampling=0, progressive=True
    ),
    "jpeg with 150 EXIF segments": lambda: after_start(150 * segment(0xE1, b"Exif\0\0" + bytes(65_000))),
}
