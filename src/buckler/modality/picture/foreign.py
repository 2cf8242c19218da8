"""Decodes HEIC, AVIF, WebP, TIFF and BMP, each in the bounded child process.

One still picture a file: animations and files of several pages are refused, since the sender may mean any of them.
"""

import base64
from typing import Final

from PIL import Image

from buckler.modality.picture import child, foreign_decoders
from buckler.modality.picture.decoded import Decoded

FORMATS: Final = tuple(foreign_decoders.DECODERS)

_DECODE: Final = f"{foreign_decoders.__name__}:decode"


def decode(name: str, content: bytes, most_pixels: int) -> Decoded:
    """Return the decoded, upright picture.

    Args:
        name: One of ``FORMATS``.
        content: The file.
        most_pixels: Most pixels that are decoded.

    Raises:
        UnusableImageError: It is damaged, exceeds a limit, or is coded in a way that is not decoded; ``code`` states
            the fault.
        BucklerError: The child process does not start.
    """
    answer = child.run(_DECODE, content, name, most_pixels, most_pixels=most_pixels)
    image = Image.fromarray(answer.pixels)
    profile = base64.b64decode(answer.facts["profile"])
    return Decoded(image, image.width, image.height, profile or None)
