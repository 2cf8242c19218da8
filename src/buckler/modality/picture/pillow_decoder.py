"""Decodes JPEG and PNG with Pillow, within the budget."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture.decode_budget import check_parts, check_size, too_large

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


def decode(name: str, content: bytes, most_pixels: int) -> Image.Image:
    """Return the fully decoded, upright picture in its own mode.

    Args:
        name: ``JPEG`` or ``PNG``.
        content: The file.
        most_pixels: Most pixels that are decoded.

    Raises:
        UnusableImageError: It is damaged or exceeds a limit; ``code`` states the fault.
    """
    cost = check_parts(name, content)
    with decoding_errors(name), Image.open(io.BytesIO(content), formats=[name]) as image:
        check_size(image.width, image.height, cost.passes, most_pixels=most_pixels)
        image.load()
        if image.mode == "P" and image.palette is None:
            raise UnusableImageError(
                ErrorCode.IMAGE_UNREADABLE, f"expected a complete {name} picture, got one without palette"
            )
        return _upright(image)


@contextmanager
def decoding_errors(name: str) -> Iterator[None]:
    """Turn any error of Pillow into an ``UnusableImageError``.

    Pillow raises many types: OSError, SyntaxError, ValueError, AssertionError, struct.error. Its messages may quote the
    file, so they are only chained, never part of the message.
    """
    try:
        yield
    except UnusableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large("far more") from error
    except Exception as error:
        fault = "a truncated one" if "truncated" in str(error).lower() else "a damaged one"
        raise UnusableImageError(
            ErrorCode.IMAGE_UNREADABLE, f"expected a complete {name} picture, got {fault}"
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; ImageOps.exif_transpose would also rewrite, and may fail on, every other tag."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:
        orientation = None  # the metadata are broken, the picture is not: viewers show it unrotated
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)
