"""Converts pictures from the colour space of their ICC profile to sRGB, as browsers show them.

LittleCMS, which computes the conversion, is native code that reads foreign bytes. A profile is therefore given to it
only if its size, header and table of tags are plausible, and used only if greys come out in order.

Source: ICC.1:2022 (profile format v4.4), section 7.
"""

import io
import logging
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Largest profile that is used; those of presses have up to 3 MB."""

_MAX_TAGS = 100
_TAGS_START = 132  # after the header and the number of tags
_CLASSES = {b"mntr", b"scnr", b"prtr", b"spac"}
_SPACES = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}
_MATRIX, _TABLE = {b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"}, {b"A2B0"}
_WANTED = {"L": ({b"kTRC"}, _TABLE), "RGB": (_MATRIX, _TABLE), "CMYK": (_TABLE,)}
_SAME = 2  # a profile that changes no colour by more than this of 255 is one of the many versions of sRGB
_LEAST_CONTRAST = 64
_MIDDLE = (24, 232)  # a grey of 128 becomes 188 with the steepest usual curve, 100 with the flattest
_CACHED_BYTES = 65_536

logger = logging.getLogger(__name__)


class Conversion:
    """A conversion to sRGB.

    Attributes:
        mode: Mode of the pictures that it converts: ``L``, ``RGB`` or ``CMYK``.
    """

    def __init__(self, profile: bytes, mode: str) -> None:
        """Build the conversion; raises `ImageCms.PyCMSError` if LittleCMS does not accept the profile."""
        self.mode = mode
        self._transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
            flags=ImageCms.Flags.NOCACHE,  # several threads use a conversion at once
        )

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return ``image`` in sRGB; its mode is converted first where it is another one."""
        converted = self._transform.apply(image if image.mode == self.mode else image.convert(self.mode))
        converted.info.clear()  # the profile of the result would be kept there
        return converted

    def in_place(self, image: Image.Image) -> None:
        """Convert the pixels of an RGB picture without a copy."""
        self._transform.apply_in_place(image)
        image.info.clear()


def conversion(profile: bytes | None, mode: str) -> Conversion | None:
    """Return the conversion of pixels with ``profile`` to sRGB.

    Args:
        profile: The ICC profile; None without.
        mode: Pillow's mode of the picture.

    Returns:
        None if there is nothing to convert: without a profile or with one of sRGB. A profile that is damaged, absurd or
        meant for other pixels is ignored, as by browsers.
    """
    if profile is None:
        return None
    return (_cached if len(profile) <= _CACHED_BYTES else _conversion)(profile, mode)


def _conversion(profile: bytes, mode: str) -> Conversion | None:
    try:
        found = Conversion(profile, _mode(profile, mode))
        return None if _changes_nothing(found) else found
    except (ImageCms.PyCMSError, OSError):
        fault = "LittleCMS refuses it"
    except _UnusableError as error:
        fault = str(error)
    logger.debug("ignored a colour profile: %s", fault)  # never its name, which may be that of a person
    return None


_cached = lru_cache(maxsize=32)(_conversion)  # building takes longer than decoding a small picture


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture of the mode ``L``, ``RGB`` or ``CMYK`` in sRGB; itself if there is nothing to convert."""
    found = conversion(profile, image.mode)
    return image if found is None else found(image)


class _UnusableError(Exception):
    """The profile is damaged, absurd or meant for other pixels."""


def _mode(profile: bytes, mode: str) -> str:
    """Return the mode of the pixels that the profile is for, which fits pixels of ``mode``.

    Raises:
        _UnusableError: It does not, or the profile is damaged.
    """
    if not _TAGS_START <= len(profile) <= MAX_PROFILE_BYTES:
        raise _UnusableError(f"it has {len(profile):,} bytes")
    size = int.from_bytes(profile[:4], "big")
    if profile[36:40] != b"acsp" or profile[8] not in (2, 4) or size > len(profile):
        raise _UnusableError("its header is damaged")
    found = _SPACES.get(profile[16:20], "")
    if not found or profile[12:16] not in _CLASSES or profile[20:24] not in (b"XYZ ", b"Lab "):
        raise _UnusableError("it is of another kind")
    colours = "CMYK" if mode == "CMYK" else "RGB" if mode in ("RGB", "RGBA", "RGBX", "P", "PA") else "L"
    if found != colours and (found, colours) != ("RGB", "L"):  # browsers take an RGB profile for grey pixels, too
        raise _UnusableError(f"it is for {found} pixels, the picture has {mode}")
    names = _tags(profile, size)
    if not any(each <= names for each in _WANTED[found]):
        raise _UnusableError("it lacks tags")
    return found


def _tags(profile: bytes, size: int) -> set[bytes]:
    """Return the names of the tags of a profile of ``size`` bytes, which all must lie inside it."""
    count = int.from_bytes(profile[_TAGS_START - 4 : _TAGS_START], "big")
    end = _TAGS_START + 12 * count
    if count > _MAX_TAGS or end > size:
        raise _UnusableError("its table of tags is damaged")
    entries = [profile[start : start + 12] for start in range(_TAGS_START, end, 12)]
    places = [(int.from_bytes(entry[4:8], "big"), int.from_bytes(entry[8:], "big")) for entry in entries]
    if any(place < _TAGS_START or place + length > size for place, length in places):
        raise _UnusableError("its table of tags is damaged")
    return {entry[:4] for entry in entries}


def _changes_nothing(found: Conversion) -> bool:
    """Return whether the conversion leaves sRGB pixels as they are, up to rounding.

    Raises:
        _UnusableError: Greys do not come out in order.
    """
    grey = Image.frombytes("L", (256, 1), bytes(range(256)))
    if found.mode == "CMYK":
        black = Image.merge("CMYK", [Image.new("L", grey.size)] * 3 + [grey])
        _check_contrast(np.asarray(found(black))[:, ::-1])
        return False
    _check_contrast(np.asarray(found(grey)))
    samples = grey if found.mode == "L" else _colour_samples()
    change = np.asarray(found(samples)).astype(int) - np.asarray(samples.convert("RGB"))
    return bool(np.abs(change).max() <= _SAME)


def _check_contrast(ramp: np.ndarray) -> None:
    """Check sRGB colours ``(1, 256, 3)`` that black to white become."""
    brightness = ramp[0].astype(int).sum(axis=-1) / 3
    rises = brightness[-1] - brightness[0] >= _LEAST_CONTRAST and np.diff(brightness).min() >= -1
    if not rises or not _MIDDLE[0] < brightness[128] < _MIDDLE[1]:
        raise _UnusableError("greys would be out of order, or black or white")


def _colour_samples() -> Image.Image:
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(27, 27, 3))
