"""Recognises the format of a picture by its content, never by its name."""

from collections.abc import Callable, Mapping
from typing import Final

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import iso_media, tiff_header
from buckler.modality.picture.other_files import other_file

_VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_HEAD = 1024  # bytes in which an element of DICOM is looked for
_BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the versions of the header behind the file's own


def _is_dicom(content: bytes) -> bool:
    if content.startswith(b"DICM", 128) or content.startswith(b"DICM"):
        return True
    return _is_dicom_element(content[:_HEAD]) or (
        not content[:128].strip(b"\0") and _is_dicom_element(content[128 : 128 + _HEAD])
    )


def _is_dicom_element(start: bytes) -> bool:
    """Return whether ``start`` is an element of a group with which files without DICOM's mark begin."""
    if start[:2] == b"\0\x08":  # big-endian
        return start[4:6] in _VALUE_REPRESENTATIONS
    if start[:2] not in (b"\2\0", b"\x08\0"):
        return False
    if start[4:6] in _VALUE_REPRESENTATIONS:
        return True
    # Implicit types: the length, and behind the value another element of the same or a near group.
    length = int.from_bytes(start[4:8], "little")
    following = start[8 + length : 10 + length]
    return length % 2 == 0 and len(following) == 2 and start[0] <= following[0] <= 0x20 and not following[1]


def _is_bitmap(content: bytes) -> bool:
    return content.startswith(b"BM") and int.from_bytes(content[14:18], "little") in _BITMAP_HEADERS


_RECOGNISED: Final[Mapping[str, Callable[[bytes], bool]]] = {
    "JPEG": lambda content: content.startswith(b"\xff\xd8\xff") and content[3:4] != b"\xf7",  # F7 begins JPEG-LS
    "PNG": lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"),
    "DICOM": _is_dicom,
    "HEIC": lambda content: iso_media.picture_format(content) == "HEIC",
    "AVIF": lambda content: iso_media.picture_format(content) == "AVIF",
    "WebP": lambda content: content.startswith(b"RIFF") and content.startswith(b"WEBP", 8),
    "TIFF": lambda content: content[:4] in tiff_header.SIGNATURES and not tiff_header.raw_name(content),
    "BMP": _is_bitmap,
}

FORMATS: Final = tuple(_RECOGNISED)
"""The formats that are decoded, in training and in the service."""

LISTED: Final = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
"""The formats as a list in a sentence."""


def format_of(content: bytes) -> str:
    """Return the format of ``content``, one of ``FORMATS``.

    Raises:
        UnusableImageError: It is empty (``image_empty``), in another format (``image_unsupported``), or has lost what
            would tell its format (``image_unreadable``).
    """
    if not content:
        raise UnusableImageError(ErrorCode.IMAGE_EMPTY, f"expected a picture ({LISTED}), got no bytes")
    for name, recognises in _RECOGNISED.items():
        if recognises(content):
            return name
    # Never quote the bytes: a file sent by mistake may begin with a patient's name.
    other = other_file(content)
    raise UnusableImageError(other.code, f"expected a picture ({LISTED}), got {other.name}; {other.do}")
