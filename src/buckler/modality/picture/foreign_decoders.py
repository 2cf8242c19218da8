"""Decoders of HEIC, AVIF, WebP, TIFF and BMP; they run in the child process of `foreign` only."""

import base64
import io
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from PIL import AvifImagePlugin, Image, ImageFile

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import child, heif, nclx, tiff
from buckler.modality.picture.colour import MAX_PROFILE_BYTES
from buckler.modality.picture.decode_budget import check_size
from buckler.modality.picture.decoded import Decoded, upright
from buckler.modality.picture.faults import decoding_errors

_PLAIN_MODES: Final = ("L", "RGB", "RGBA")


def decode(content: bytes, name: str, most_pixels: int) -> child.Output:
    """Return a picture of the format ``name``; errors as for `foreign.decode`."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the child starts no thread
    with decoding_errors(name):
        found = DECODERS[name](content, most_pixels)
        profile = found.profile if found.profile and len(found.profile) <= MAX_PROFILE_BYTES else b""
        return child.Output(np.asarray(found.image), {"profile": base64.b64encode(profile).decode()})


def _still(plugin: str) -> Callable[[bytes, int], Decoded]:
    """Return the decoder of a format of one still picture, which Pillow's ``plugin`` reads."""

    def decode(content: bytes, most_pixels: int) -> Decoded:
        with Image.open(io.BytesIO(content), formats=[plugin]) as image:
            check_size(*image.size, most_pixels=most_pixels)
            check_still(getattr(image, "n_frames", 1))
            image.load()
            profile, exif, sides = image.info.get("icc_profile"), image.info.get("exif"), image.size
            if plugin == "AVIF":
                profile = profile or nclx.profile(nclx.colours(content))
            return upright(plain(image), exif, sides, profile)

    return decode


def check_still(frames: int) -> None:
    """Refuse an animation."""
    if frames != 1:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNSUPPORTED, f"expected a still picture, got an animation of {frames:,} frames; send one"
        )


def plain(image: Image.Image) -> Image.Image:
    """Return ``image`` as L, RGB or RGBA."""
    if image.mode in _PLAIN_MODES and not image.has_transparency_data:
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


DECODERS: Final[Mapping[str, Callable[[bytes, int], Decoded]]] = {
    "HEIC": heif.decode,
    "AVIF": _still("AVIF"),
    "WebP": _still("WEBP"),
    "TIFF": tiff.decode,
    "BMP": _still("BMP"),
}
