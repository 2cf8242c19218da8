"""Decoder of JPEG and PNG pictures, the same in training and in the service; `dicom` decodes DICOM files."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.error_codes import ErrorCode
from buckler.errors import DataError, UnusableImageError
from buckler.modality.picture import decode_budget

CHANNELS = 3  # RGB
MAX_PIXELS = 50_000_000
"""Maximum number of pixels, checked in the header before any pixel is decoded; enough for a 50-megapixel phone."""

MAX_SIDE = 65_535
"""Maximum width and height. A JPEG's header allows no more; a PNG of 1 by millions of pixels is slow to decode."""

_SIGNATURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_COSTS = {"JPEG": decode_budget.jpeg_cost, "PNG": decode_budget.png_cost}
# Magic bytes of unsupported formats, used only in error messages.
_OTHERS = (
    ("a GIF", 0, b"GIF8"),
    ("a TIFF", 0, b"II*\0"),
    ("a TIFF", 0, b"MM\0*"),
    ("a WebP", 8, b"WEBP"),
    ("a HEIF", 4, b"ftyphei"),
    ("a HEIF", 4, b"ftyphev"),
    ("a HEIF", 4, b"ftypmif1"),
    ("an AVIF", 4, b"ftypavi"),
    ("a video", 4, b"ftyp"),  # MP4 and its relatives
    ("a video", 0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    ("a video", 8, b"AVI "),
    ("a BMP", 0, b"BM"),
    ("a DICOM file", 128, b"DICM"),
    ("a PDF", 0, b"%PDF"),
    ("a ZIP archive", 0, b"PK"),
    ("HTML, SVG or other XML", 0, b"<"),
)
_STRIP_PIXELS = 4_000_000
_SIXTEEN_BIT_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Description of a decoded picture: sides in pixels, as displayed; Pillow's mode; ``JPEG`` or ``PNG``."""

    width: int
    height: int
    mode: str
    format: str


def inspect(source: Path | bytes) -> ImageInfo:
    """Decode ``source`` completely and return its description.

    Raises:
        UnusableImageError: The picture is not a complete JPEG or PNG, or exceeds a limit; ``code`` states the fault.
        DataError: ``source`` is a path that cannot be read.
    """
    content = _read(source)
    image = _decode(content)
    return ImageInfo(image.width, image.height, image.mode, _format_of(content))


def load_pixels(source: Path | bytes, *, size: int | None = None) -> NDArray[np.float32]:
    """Return a picture as ``(height, width, 3)`` float32 in 0..1.

    EXIF orientation is applied. Transparent pixels are blended with white, as viewers do, so that the model sees what
    a person sees. Grey, palette, CMYK and 16-bit pictures become 8-bit RGB.

    Args:
        source: A JPEG or PNG, recognised by its content, never by its name.
        size: Side of the square to resize to (bilinear, antialiased); ``None`` keeps the picture's own sides.

    Raises:
        UnusableImageError: The picture is not a complete JPEG or PNG, or exceeds a limit; ``code`` states the fault.
        DataError: ``source`` is a path that cannot be read.
    """
    return as_pixels(load_image(source), size=size)


def load_image(source: Path | bytes, *, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return a picture upright, as 8-bit RGB, at its own sides; errors as for ``load_pixels``.

    Args:
        source: As for ``load_pixels``.
        most_pixels: Most pixels that are decoded.
    """
    content = _read(source)
    with _decoding_errors(_format_of(content)):
        return _to_rgb(_decode(content, most_pixels))


def as_pixels(image: Image.Image, *, size: int | None = None) -> NDArray[np.float32]:
    """Return an 8-bit RGB picture as ``(height, width, 3)`` float32 in 0..1; ``size`` as for ``load_pixels``."""
    if size is not None and image.size != (size, size):
        # Pillow widens the bilinear kernel with the scale, so that downscaling does not alias.
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def load_batch(paths: Sequence[Path], *, size: int, description: str | None = None) -> NDArray[np.float32]:
    """Return ``(len(paths), size, size, 3)`` float32 in 0..1; a ``description`` shows a progress bar.

    Raises:
        UnusableImageError: As for ``load_pixels``; the message begins with the path.
    """
    images = np.empty((len(paths), size, size, CHANNELS), dtype=np.float32)
    for index, path in enumerate(with_progress(paths, description)):
        try:
            images[index] = load_pixels(path, size=size)
        except UnusableImageError as error:
            raise UnusableImageError(error.code, f"{path}: {error}") from error
    return images


def to_png(pixels: NDArray[np.floating]) -> bytes:
    """Return ``(height, width, 3)`` pixels in 0..1 as an 8-bit RGB PNG.

    Raises:
        ValueError: The pixels have another shape.
    """
    if pixels.ndim != 3 or pixels.shape[2] != CHANNELS:
        raise ValueError(f"expected pixels of shape (height, width, 3), got {pixels.shape}")
    return encode_png(Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)))


def encode_png(image: Image.Image, *, compress_level: int = 6) -> bytes:
    """Return ``image`` as a PNG file; ``compress_level`` from 0, the fastest, to 9, the smallest file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=compress_level)
    return buffer.getvalue()


def shrunk(image: Image.Image, longest_side: int) -> Image.Image:
    """Return ``image`` in proportion, at most ``longest_side`` pixels a side; itself if it is small enough."""
    share = longest_side / max(image.size)
    if share >= 1:
        return image
    width, height = (max(1, round(side * share)) for side in image.size)
    # Unlike `Image.thumbnail` of a copy, this holds the large picture only once.
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


def with_progress(paths: Sequence[Path], description: str | None) -> Iterable[Path]:
    """Return ``paths``; a ``description`` shows a progress bar."""
    if description is None:
        return paths
    from tqdm import tqdm  # not installed with the service, which shows no progress bars

    bar: Iterable[Path] = tqdm(paths, desc=description, unit="picture")
    return bar


def _read(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the picture {source}: {error.strerror or error}") from error


def _format_of(content: bytes) -> str:
    if not content:
        raise UnusableImageError(ErrorCode.IMAGE_EMPTY, "expected a JPEG or PNG picture, got no bytes")
    for signature, name in _SIGNATURES.items():
        if content.startswith(signature):
            return name
    # Never quote the bytes: a file sent by mistake may begin with a patient's name.
    kind = next((name for name, place, magic in _OTHERS if content.startswith(magic, place)), "something else")
    raise UnusableImageError(
        ErrorCode.IMAGE_UNSUPPORTED, f"expected a JPEG or PNG picture, got {kind}; convert it first"
    )


def _decode(content: bytes, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the fully decoded, upright picture in its own mode."""
    name = _format_of(content)
    cost = check_parts(name, content)
    with _decoding_errors(name), Image.open(io.BytesIO(content), formats=[name]) as image:
        check_budget(image.width, image.height, cost.passes, most_pixels=most_pixels)
        image.load()
        if image.mode == "P" and image.palette is None:
            raise UnusableImageError(
                ErrorCode.IMAGE_UNREADABLE, f"expected a complete {name} picture, got one without palette"
            )
        return _upright(image)


def check_parts(name: str, content: bytes) -> decode_budget.DecodeCost:
    """Return the cost of decoding ``content``, a ``JPEG`` or ``PNG`` by ``name``.

    Raises:
        UnusableImageError: It has too many parts (``image_unreadable``).
    """
    cost = _COSTS[name](content)
    if cost.parts > decode_budget.MAX_PARTS:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNREADABLE,
            f"expected a {name} of at most {decode_budget.MAX_PARTS:,} parts, got more; save the picture again",
        )
    return cost


@contextmanager
def _decoding_errors(name: str) -> Iterator[None]:
    """Turn any error of Pillow into an ``UnusableImageError``.

    Pillow raises many types: OSError, SyntaxError, ValueError, AssertionError, struct.error. Its messages may quote the
    file, so they are only chained, never part of the message.
    """
    try:
        yield
    except UnusableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large("far more") from error
    except Exception as error:
        fault = "a truncated one" if "truncated" in str(error).lower() else "a damaged one"
        raise UnusableImageError(
            ErrorCode.IMAGE_UNREADABLE, f"expected a complete {name} picture, got {fault}"
        ) from error


def check_budget(width: int, height: int, passes: int = 1, *, most_pixels: int = MAX_PIXELS) -> None:
    """Check the size that a picture's header states, and the passes over its pixels.

    Raises:
        UnusableImageError: The picture is too large (``image_too_large``) or has too many passes
            (``image_unreadable``).
    """
    if width * height > most_pixels:
        raise _too_large(f"{width} x {height}", most_pixels)
    if max(width, height) > MAX_SIDE:
        raise UnusableImageError(
            ErrorCode.IMAGE_TOO_LARGE, f"expected sides of at most {MAX_SIDE:,} pixels, got {width} x {height}"
        )
    if width * height * passes > decode_budget.MAX_PASSED_PIXELS:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNREADABLE,
            f"expected fewer scans over {width} x {height} pixels, got {passes}; save the picture again",
        )


def _too_large(what: str, most_pixels: int = MAX_PIXELS) -> UnusableImageError:
    return UnusableImageError(
        ErrorCode.IMAGE_TOO_LARGE, f"expected at most {most_pixels:,} pixels, got {what}; send a smaller picture"
    )


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; ImageOps.exif_transpose would also rewrite, and may fail on, every other tag."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:
        orientation = None  # the metadata are broken, the picture is not: viewers show it unrotated
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` as RGB, converted in strips to save memory: each conversion step copies its input."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rows = max(1, _STRIP_PIXELS // image.width)
    if image.height <= rows:
        return _strip_to_rgb(image)
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(_strip_to_rgb(strip), (0, top))
    return result


def _strip_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_GREY:
        # convert("RGB") would clip the values at 255, which is nearly always white.
        grey = np.asarray(image).astype(np.uint32)
        image = Image.fromarray((np.minimum(grey, 0xFFFF) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image if image.mode == "RGB" else image.convert("RGB")
