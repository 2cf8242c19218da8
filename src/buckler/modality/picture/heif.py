"""Decodes HEIC, the format of iPhones, with libheif; runs in the child process of `foreign`.

The extra ``heic`` is needed: libheif is under the LGPL, so not everybody wants to install it.
"""

from typing import Any

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import nclx
from buckler.modality.picture.decode_budget import check_size
from buckler.modality.picture.decoded import Decoded


def decode(content: bytes, most_pixels: int) -> Decoded:
    """Return the primary picture, upright, as RGB or RGBA of 8 bits.

    Rotation and mirroring are properties of the file, which libheif applies; the orientation in EXIF repeats them and
    is ignored, as the standard says. Gain maps, thumbnails and depth pictures are not read.

    Raises:
        UnusableImageError: The file is damaged or too large, or the extra ``heic`` is not installed.

    Source: ISO/IEC 23008-12, section 6.5.10 (irot), 6.5.12 (imir), annex A.2.1 (EXIF).
    """
    try:
        import pi_heif
    except ImportError:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNSUPPORTED,
            "expected a picture of another format than HEIC: the extra `heic` is not installed here; send a JPEG, or "
            "install buckler[heic]",
        ) from None
    # One thread, since the child starts no other; and only the picture itself.
    pi_heif.options.DECODE_THREADS = 1
    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    file = pi_heif.open_heif(content)
    check_size(*file.size, most_pixels=most_pixels)
    image = file.to_pillow()
    check_size(*image.size, most_pixels=most_pixels)
    image = image.convert("RGBA") if image.mode == "RGBa" else image
    profile = file.info.get("icc_profile") or nclx.profile(_colours(file.info.get("nclx_profile")))
    return Decoded(image, image.width, image.height, profile)


def _colours(found: dict[str, Any] | None) -> tuple[int, int] | None:
    return (int(found["color_primaries"]), int(found["transfer_characteristics"])) if found else None
