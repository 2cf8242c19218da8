"""Decodes picture files, the same in training and in the service, and writes PNG."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.error_codes import ErrorCode
from buckler.errors import DataError, UnusableImageError
from buckler.modality.picture import dicom, foreign, jpeg, png
from buckler.modality.picture.decode_budget import MAX_PIXELS
from buckler.modality.picture.decoded import Decoded
from buckler.modality.picture.faults import decoding_errors
from buckler.modality.picture.formats import format_of
from buckler.modality.picture.rgb import to_rgb

CHANNELS = 3  # RGB


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Description of a decoded picture: sides in pixels, as displayed; Pillow's mode; the format as in `formats`."""

    width: int
    height: int
    mode: str
    format: str


def inspect(source: Path | bytes) -> ImageInfo:
    """Decode ``source`` completely and return its description.

    Raises:
        UnusableImageError: The picture is incomplete, of another format or exceeds a limit; ``code`` states the fault.
        DataError: ``source`` is a path that cannot be read.
    """
    content = _read(source)
    found = _decode(content, MAX_PIXELS, size=1)  # a scaled picture has the same mode, and the sides of the file
    return ImageInfo(found.width, found.height, found.image.mode, format_of(content))


def load_pixels(source: Path | bytes, *, size: int | None = None) -> NDArray[np.float32]:
    """Return a picture as ``(height, width, 3)`` float32 in 0..1.

    EXIF orientation is applied. Transparent pixels are blended with white, as viewers do, so that the model sees what
    a person sees. Colours are converted to sRGB by the file's colour profile. Grey, palette, CMYK and 16-bit pictures
    become 8-bit RGB.

    Args:
        source: A file of one of `formats.FORMATS`, recognised by its content, never by its name.
        size: Side of the square to resize to (bilinear, antialiased); ``None`` keeps the picture's own sides.

    Raises:
        UnusableImageError: The picture is incomplete, of another format or exceeds a limit; ``code`` states the fault.
        DataError: ``source`` is a path that cannot be read.
    """
    return as_pixels(load(source, size=size).image, size=size)


def load_image(source: Path | bytes) -> Image.Image:
    """Return a picture upright, as 8-bit RGB, at its own sides; errors as for ``load_pixels``."""
    return load(source).image


def load(
    source: Path | bytes, *, size: int | None = None, most_pixels: int = MAX_PIXELS, frame: int | None = None
) -> Decoded:
    """Return a picture upright, as 8-bit RGB, with the sides that it has in the file; errors as for ``load_pixels``.

    Args:
        source: As for ``load_pixels``.
        size: Side to which the picture will be reduced: a large JPEG then has fewer pixels than the file. None keeps
            all.
        most_pixels: Most pixels of a file that is decoded.
        frame: Number of the frame of a DICOM file, from 1; a file of several needs one.
    """
    content = _read(source)
    found = _decode(content, most_pixels, size, frame)
    with decoding_errors(format_of(content)):
        return replace(found, image=to_rgb(found), profile=None)


def as_pixels(image: Image.Image, *, size: int | None = None) -> NDArray[np.float32]:
    """Return an 8-bit RGB picture as ``(height, width, 3)`` float32 in 0..1; ``size`` as for ``load_pixels``."""
    if size is not None and image.size != (size, size):
        # Pillow widens the bilinear kernel with the scale, so that downscaling does not alias.
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32) / np.float32(255)


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


def _read(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the picture {source}: {error.strerror or error}") from error


def _decode(content: bytes, most_pixels: int, size: int | None, frame: int | None = None) -> Decoded:
    """Return the decoded, upright picture in its own mode."""
    name = format_of(content)
    if name == "DICOM":
        return dicom.decode(content, most_pixels, frame)
    if frame not in (None, 1):
        raise UnusableImageError(
            ErrorCode.IMAGE_UNSUPPORTED, f"expected a DICOM file with a frame {frame}, got one picture ({name})"
        )
    if name == "JPEG":
        return jpeg.decode(content, most_pixels, size)  # the only one that scales while it decodes
    return _DECODERS[name](content, most_pixels)


_DECODERS: Mapping[str, Callable[[bytes, int], Decoded]] = {
    "PNG": png.decode,
    **{name: partial(foreign.decode, name) for name in foreign.FORMATS},
}
