"""Reads the brands of files of the ISO base media format: HEIC, AVIF, videos, Canon's raw pictures.

Source: ISO/IEC 14496-12, section 4.3 (file type box); ISO/IEC 23008-12, section 10 (brands of pictures).
"""

from collections.abc import Mapping
from typing import Final

HEIC_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
)
"""HEVC's brands, and those that name no coding, which libheif finds in the file."""

AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})

_MAX_BRANDS: Final = 64
_NO_CODING: Final = frozenset({b"mif1", b"mif2", b"msf1"})

OTHER_BRANDS: Final[Mapping[bytes, str]] = {
    b"crx ": "Canon CR3 raw picture",
    b"qt  ": "QuickTime video (MOV)",
    **dict.fromkeys((b"mp41", b"mp42", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"avc1", b"MSNV"), "MP4 video"),
    **dict.fromkeys((b"M4V ", b"M4VP", b"dash", b"mmp4", b"f4v ", b"XAVC", b"iso8", b"iso9"), "MP4 video"),
    **dict.fromkeys((b"3gp4", b"3gp5", b"3gp6", b"3gp7", b"3ge6", b"3gg6", b"3g2a", b"3g2b"), "3GP video"),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), "sound recording (M4A)"),
    **dict.fromkeys((b"jpeg", b"jpgs"), "HEIF picture coded as JPEG"),
    **dict.fromkeys((b"avci", b"avcs"), "HEIF picture coded as H.264"),
    **dict.fromkeys((b"vvic", b"vvis"), "HEIF picture coded as H.266"),
    **dict.fromkeys((b"j2ki", b"j2is"), "HEIF picture coded as JPEG 2000"),
    b"mjp2": "Motion JPEG 2000 video",
}


def brands(content: bytes) -> tuple[bytes, ...]:
    """Return the major brand and then the compatible ones; none if ``content`` is of another format."""
    if content[4:8] != b"ftyp" or len(content) < 12:
        return ()
    size = min(int.from_bytes(content[:4], "big"), 16 + 4 * _MAX_BRANDS)
    compatible = content[16:size]
    return content[8:12], *(compatible[place : place + 4] for place in range(0, len(compatible) - 3, 4))


def picture_format(content: bytes) -> str | None:
    """Return ``HEIC`` or ``AVIF``; None for videos, raw pictures and files of other formats.

    The first brand that names a coding decides: the major brand of a picture may be ``mif1``, which names none, and a
    video may list a picture's brands as compatible.
    """
    found = brands(content)
    for brand in found:
        if brand in OTHER_BRANDS:
            return None
        if brand in AVIF_BRANDS:
            return "AVIF"
        if brand in HEIC_BRANDS - _NO_CODING:
            return "HEIC"
    return "HEIC" if _NO_CODING.intersection(found) else None


def other_name(content: bytes) -> str | None:
    """Return what a file of this family is that is no HEIC or AVIF, by the first brand that tells; else None."""
    found = brands(content)
    if not found:
        return None
    return next((OTHER_BRANDS[brand] for brand in found if brand in OTHER_BRANDS), "video")
