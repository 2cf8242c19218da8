"""Errors of pictures that cannot be decoded."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture.decode_budget import too_large


def unreadable(message: str) -> UnusableImageError:
    """Return the error of a damaged picture; ``message`` never quotes the file."""
    return UnusableImageError(ErrorCode.IMAGE_UNREADABLE, message)


@contextmanager
def decoding_errors(name: str) -> Iterator[None]:
    """Turn any error of a decoder into an ``UnusableImageError``.

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
        raise unreadable(f"expected a complete {name} picture, got {fault}") from error
