"""Reads the first directory of a TIFF, without its pixels: it tells a camera's raw file from a picture.

Source: TIFF 6.0, section 2; Adobe DNG specification 1.7; TIFF/EP (ISO 12234-2).
"""

import struct
from collections.abc import Mapping
from typing import Final

LITTLE, BIG = b"II*\0", b"MM\0*"
SIGNATURES: Final = (LITTLE, BIG)

_MAX_ENTRIES: Final = 512
_MAX_TEXT: Final = 64
_SIZES: Final[Mapping[int, str]] = {1: "B", 2: "c", 3: "H", 4: "I", 13: "I"}

_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _MAKE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 259, 262, 271, 330, 50706
_COLOUR_FILTER, _LINEAR_RAW = 32803, 34892
_REDUCED: Final = 1
_COPY_OR_MASK: Final = 5  # bits 0 and 2 of the tag NewSubfileType

# The first letters of the maker decide the name of its raw format.
_MAKERS: Final[Mapping[str, str]] = {
    "NIKON": "Nikon NEF",
    "SONY": "Sony ARW",
    "CANON": "Canon TIFF-based",
    "PENTAX": "Pentax PEF",
    "RICOH": "Pentax PEF",
    "SAMSUNG": "Samsung SRW",
    "HASSELBLAD": "Hasselblad 3FR",
    "PHASE ONE": "Phase One IIQ",
    "LEAF": "Leaf MOS",
    "KODAK": "Kodak DCR",
    "EASTMAN": "Kodak DCR",
    "EPSON": "Epson ERF",
    "SEIKO": "Epson ERF",
}


def first_directory(content: bytes) -> dict[int, int | str]:
    """Return the tags of the first directory with their first number, or their text; none if it is damaged."""
    if content[:4] not in SIGNATURES:
        return {}
    order = "<" if content[:4] == LITTLE else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        entries = (_entry(content, order, start + 2 + 12 * index) for index in range(min(count, _MAX_ENTRIES)))
        return dict(entry for entry in entries if entry is not None)
    except struct.error:
        return {}


def _entry(content: bytes, order: str, place: int) -> tuple[int, int | str] | None:
    tag, kind, count = struct.unpack_from(f"{order}HHI", content, place)
    if kind not in _SIZES or not count:
        return None
    letter = _SIZES[kind]
    fits = count * struct.calcsize(letter) <= 4
    (value,) = (place + 8,) if fits else struct.unpack_from(f"{order}I", content, place + 8)
    if letter == "c":
        return tag, content[value : value + min(count, _MAX_TEXT)].split(b"\0")[0].decode("latin-1").strip()
    return tag, int(struct.unpack_from(order + letter, content, value)[0])


def raw_name(content: bytes) -> str | None:
    """Return the name of a camera's raw format based on TIFF, such as ``Nikon NEF``; None for other files.

    The first picture of most raw files is a small preview: decoded as a TIFF, it would pass for the picture.
    """
    if content[8:10] == b"CR" and content[:4] == LITTLE:
        return "Canon CR2"
    tags = first_directory(content)
    if _DNG_VERSION in tags:
        return "Adobe DNG"
    reduced = tags.get(_SUBFILE) == _REDUCED and _SUB_DIRECTORIES in tags
    if reduced or tags.get(_PHOTOMETRIC) in (_COLOUR_FILTER, _LINEAR_RAW):
        make = str(tags.get(_MAKE, "")).upper()
        return next((name for start, name in _MAKERS.items() if make.startswith(start)), "camera's")
    return None


def pages(content: bytes, most: int = 10_000) -> int:
    """Return the number of pages, at most ``most``: directories that are no reduced copy or mask of another page."""
    order = "<" if content[:4] == LITTLE else ">"
    count = 0
    seen: set[int] = set()
    try:
        (place,) = struct.unpack_from(f"{order}I", content, 4)
        while place and place not in seen and len(seen) < most:
            seen.add(place)
            (entries,) = struct.unpack_from(f"{order}H", content, place)
            tags = dict(struct.unpack_from(f"{order}H6xI", content, place + 2 + 12 * index) for index in range(entries))
            count += not tags.get(_SUBFILE, 0) & _COPY_OR_MASK
            (place,) = struct.unpack_from(f"{order}I", content, place + 2 + 12 * entries)
    except struct.error:
        pass  # what follows is cut off; the first page may be whole
    return count
