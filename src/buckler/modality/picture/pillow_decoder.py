"""Decodes PNG with Pillow, within the budget."""

import io

from PIL import Image

from buckler.modality.picture.decode_budget import check_parts, check_size
from buckler.modality.picture.decoded import Decoded, upright
from buckler.modality.picture.faults import decoding_errors, unreadable


def decode(content: bytes, most_pixels: int) -> Decoded:
    """Return the fully decoded, upright picture in its own mode.

    Args:
        content: The file.
        most_pixels: Most pixels that are decoded.

    Raises:
        UnusableImageError: It is damaged or exceeds a limit; ``code`` states the fault.
    """
    check_parts(content)
    with decoding_errors("PNG"), Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        check_size(image.width, image.height, most_pixels=most_pixels)
        image.load()
        if image.mode == "P" and image.palette is None:
            raise unreadable("expected a complete PNG picture, got one without palette")
        return upright(image, image.info.get("exif"), image.size)
