"""Bounds time and memory of decoding before a picture is decoded: its sides, parts, and the passes over its pixels.

Limits on pixels and bytes do not bound that time. Everything before the pixels is parsed part by part: 10 MB of empty
JPEG segments take seconds. A progressive JPEG may update all pixels any number of times: 200 passes over 50
megapixels fit into 0.2 MB and take 10 s.
"""

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError

MAX_PIXELS = 64_000_000
"""Maximum number of pixels, checked in the header before any pixel is decoded: 50-megapixel phones have up to 8192 x
6144."""

ORDINARY_PIXELS = 12_600_000
"""Largest number of pixels of most cameras; phones have up to 4080 x 3072. A larger JPEG is decoded scaled down."""

MAX_SIDE = 65_535
"""Maximum width and height. A JPEG's header allows no more; a PNG of 1 by millions of pixels is slow to decode."""

MAX_PARTS = 20_000
"""Maximum number of chunks of a PNG, or of segments of a JPEG and bytes between them. A camera writes tens of segments;
a PNG encoder writes one chunk per 8 kB."""

MAX_RAW_BYTES = 256 * 1024 * 1024
"""Maximum number of bytes of uncompressed pixels in a PNG: 64 megapixels with alpha, half of them with 16 bits."""

MAX_PASSED_PIXELS = 1_000_000_000
"""Maximum of pixels times passes. Progressive JPEGs usually have 10 passes: at most 100 megapixels."""


def check_size(width: int, height: int, passes: int = 1, *, most_pixels: int = MAX_PIXELS) -> None:
    """Check the size that a picture's header states, and the passes over its pixels.

    Raises:
        UnusableImageError: The picture is too large (``image_too_large``) or has too many passes
            (``image_unreadable``).
    """
    if width * height > most_pixels:
        raise too_large(f"{width} x {height}", most_pixels)
    if max(width, height) > MAX_SIDE:
        raise UnusableImageError(
            ErrorCode.IMAGE_TOO_LARGE, f"expected sides of at most {MAX_SIDE:,} pixels, got {width} x {height}"
        )
    if width * height * passes > MAX_PASSED_PIXELS:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNREADABLE,
            f"expected fewer scans over {width} x {height} pixels, got {passes}; save the picture again",
        )


def check_raw_bytes(count: int) -> None:
    """Check the number of bytes of a picture's pixels in the file's own format, uncompressed.

    Raises:
        UnusableImageError: There are too many (``image_too_large``).
    """
    if count > MAX_RAW_BYTES:
        raise UnusableImageError(
            ErrorCode.IMAGE_TOO_LARGE,
            f"expected at most {MAX_RAW_BYTES:,} bytes of uncompressed pixels, got {count:,}; send a smaller picture",
        )


def too_large(what: str, most_pixels: int = MAX_PIXELS) -> UnusableImageError:
    """Return the error of a picture of ``what`` size."""
    return UnusableImageError(
        ErrorCode.IMAGE_TOO_LARGE, f"expected at most {most_pixels:,} pixels, got {what}; send a smaller picture"
    )
