"""Decodes JPEG strictly: a picture of which data are missing or damaged is refused, never filled in.

libjpeg-turbo invents what it cannot decode and warns; simplejpeg raises these warnings, Pillow hides them. Damage that
still is a valid stream of codes, such as a changed bit that changes only colours, cannot be recognised.
"""

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import jpeg_file
from buckler.modality.picture.decode_budget import ORDINARY_PIXELS, check_size
from buckler.modality.picture.decoded import Decoded, upright
from buckler.modality.picture.faults import decoding_errors
from buckler.modality.picture.jpeg_file import JpegFile, damaged

RGB, YCBCR = 0, 1
"""Colour transforms for ``decode_pixels``, as Adobe numbers them."""

_SPACES = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_COARSE = 8  # the largest factor by which libjpeg scales down
_GREY = 128  # what libjpeg fills missing rows with


def decode(content: bytes, most_pixels: int, size: int | None = None) -> Decoded:
    """Return the upright picture of a JPEG in the mode ``L``, ``RGB`` or ``CMYK``.

    A picture of more than ``ORDINARY_PIXELS`` is scaled down while it is decoded, as far as ``size`` allows, to save
    memory and time. The scale depends on the file's sides and ``size`` only, so that training and service agree.

    Args:
        content: The file.
        most_pixels: Most pixels of a file that is decoded.
        size: Side in pixels to which the picture will be reduced; None keeps all pixels.

    Raises:
        UnusableImageError: It is damaged or exceeds a limit; ``code`` states the fault.
    """
    file = jpeg_file.read(content)
    check_size(file.width, file.height, file.scans, most_pixels=most_pixels)
    return upright(decode_pixels(file, scale=_scale(file, size)), file.exif, (file.width, file.height), file.profile)


def _scale(file: JpegFile, size: int | None) -> int:
    """Return by how much each side can be divided: at most so that both keep twice ``size`` pixels."""
    if size is None:
        return 1
    scale = 1
    while scale < _COARSE and file.width * file.height > scale**2 * ORDINARY_PIXELS:
        if min(file.width, file.height) < 2 * scale * 2 * size:
            break
        scale *= 2
    return scale


def decode_pixels(file: JpegFile, *, transform: int | None = None, scale: int = 1) -> Image.Image:
    """Return the pixels of a JPEG as they lie in the file, in the mode ``L``, ``RGB`` or ``CMYK``.

    The caller checks the size before, with `check_size`.

    Args:
        file: The JPEG, as `jpeg_file.read` returns it.
        transform: ``RGB`` or ``YCBCR`` if the stored colours are known from elsewhere; None follows the file's marks
            and the ids of its components, as libjpeg does.
        scale: What each side is divided by, rounded up: 1, 2, 4 or 8.

    Raises:
        UnusableImageError: The picture is damaged (``image_unreadable``) or of a kind that is not decoded
            (``image_unsupported``).
    """
    if file.precision != 8 or len(file.components) not in _SPACES:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNSUPPORTED,
            "expected a JPEG of 8 bits a sample and 1, 3 or 4 colour components, got "
            f"{file.precision} bits and {len(file.components)}; convert it first",
        )
    if missing := file.missing():
        raise damaged(missing)
    stream = file.stream(transform)
    with decoding_errors("JPEG"):
        try:
            pixels = _pixels(file, stream, scale=scale)
        except ValueError as warning:
            raise damaged(_damage(file, stream, str(warning))) from warning
        return _image(pixels)


def _pixels(file: JpegFile, stream: bytes, *, scale: int = 1, strict: bool = True) -> NDArray[np.uint8]:
    """Return ``(height, width, components)``, each side divided by ``scale``.

    A lossless frame always has its full size: libjpeg does not scale it, though it says so, and writes behind the end
    of a buffer of the smaller size.
    """
    if file.frame in jpeg_file.LOSSLESS:
        scale = 1
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        stream,
        _SPACES[len(file.components)],
        min_height=-(-file.height // scale),
        min_width=-(-file.width // scale),
        strict=strict,
    )
    return pixels


def _image(pixels: NDArray[np.uint8]) -> Image.Image:
    height, width, components = pixels.shape
    if components == 4:
        # Adobe and everybody else store CMYK inverted.
        return Image.frombuffer("CMYK", (width, height), pixels, "raw", "CMYK;I", 0, 1)
    return Image.fromarray(pixels[..., 0] if components == 1 else pixels)


def _damage(file: JpegFile, stream: bytes, warning: str) -> str:
    """Return what is damaged, and about how much of it, by decoding once more, coarsely and leniently."""
    if "extraneous" in warning:
        return "with more data than its pixels need: bytes were inserted or changed"
    if file.scans > 1:
        return f"whose data are damaged or end early, in one of its {file.scans} passes"
    try:
        pixels = _pixels(file, stream, scale=_COARSE, strict=False)
    except ValueError:
        return "whose data cannot be decoded"
    grey = (pixels[:, -1] == _GREY).all(axis=-1)
    rows = len(grey) if grey.all() else int(np.argmin(grey[::-1]))
    if not rows:
        return "whose data are damaged"
    lost = min(file.height, round(rows * file.height / len(grey)))
    return f"whose data are damaged or end early: about the last {lost:,} of {file.height:,} rows are missing"
