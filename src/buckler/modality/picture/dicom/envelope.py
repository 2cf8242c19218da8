"""Reads a DICOM file up to its pixel data, as pydicom's users expect: also without preamble or file meta information.

Only the attributes that describe pixels are parsed, never those of patient, study and device.

Source: DICOM PS3.10, section 7 (file format); PS3.5, section 7 (data elements) and annex A (transfer syntaxes).
"""

import io
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from buckler.modality.picture.dicom import objects

if TYPE_CHECKING:  # the import takes a quarter of a second; a service without DICOM files never spends it
    from pydicom import Dataset

IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2"))
DEFLATED = "1.2.840.10008.1.2.1.99"
NATIVE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED)
UNKNOWN_ENCAPSULATED = ""
"""Transfer syntax of a file that states none, whose pixel data consist of compressed fragments."""

UNDEFINED, _ITEM = 0xFFFFFFFF, b"\xfe\xff\x00\xe0"
MAX_HEADER = 4_000_000
"""Most bytes that are inflated before the pixel data; colour profiles have a few megabytes at most."""

_FLOAT_PIXELS, _PIXELS = (0x7FE00008, 0x7FE00009), 0x7FE00010
_LONG_LENGTH = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_TABLES = ("Red", "Green", "Blue")
_KEYWORDS = (
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PresentationLUTShape"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ICCProfile", "OpticalPathSequence"),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in _TABLES for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _TABLES),
    *objects.CONTENT_KEYWORDS,
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DICOM file, read up to its pixel data.

    Attributes:
        dataset: The attributes that describe pixels.
        syntax: Identifier of the transfer syntax, or ``UNKNOWN_ENCAPSULATED``.
        big_endian: Byte order of the data set.
        length: Stated length of the pixel data in bytes; ``UNDEFINED`` for compressed fragments.
        words: The pixel data are stored as 16-bit words (value representation OW).
    """

    dataset: "Dataset"
    syntax: str
    big_endian: bool
    length: int
    words: bool
    _content: bytes = field(repr=False)
    _start: int
    _inflater: Any = None

    @property
    def in_fragments(self) -> bool:
        """The pixel data consist of compressed fragments; some writers state their total length."""
        stated = self.syntax not in NATIVE and self._content.startswith(_ITEM, self._start)
        return self.length == UNDEFINED or stated

    def pixel_bytes(self, most: int | None = None) -> memoryview:
        """Return the bytes from the start of the pixel data's value: its length, and at most ``most``."""
        size = len(self._content) if self.length == UNDEFINED else self.length
        size = size if most is None else min(size, most)
        if self._inflater is None:
            return memoryview(self._content)[self._start : self._start + size]
        missing = self._start + size - len(self._content)
        inflated = self._content[self._start : self._start + size]
        if missing > 0:
            inflated += self._inflater.decompress(self._inflater.unconsumed_tail, missing)
        return memoryview(inflated)


def read(content: bytes) -> Envelope:
    """Return the attributes of a file, and where its pixel data are.

    Raises:
        UnusableImageError: The file holds no picture, or is cut off before its pixel data.
    """
    from pydicom.filereader import read_dataset

    syntax, sop_class, start = _file_meta(content)
    inflater = None
    if syntax == DEFLATED:
        # Inflate only what precedes the pixels; their size is known and checked before the rest is.
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        content, start = inflater.decompress(content[start:], MAX_HEADER), 0
    if syntax is None:
        implicit, big_endian = _guess(content, start)
    else:
        implicit, big_endian = syntax == IMPLICIT_LITTLE, syntax == EXPLICIT_BIG
    file = io.BytesIO(content)
    file.seek(start)
    dataset = read_dataset(file, implicit, not big_endian, stop_when=_at_pixels, specific_tags=_tags())
    sop_class = str(dataset.get("SOPClassUID") or sop_class)
    objects.check_is_picture(dataset, sop_class)
    implicit = bool(dataset.original_encoding[0])  # as found, which may differ from the stated one
    tag, words, length, value = _element(content, file.tell(), implicit, big_endian)
    if tag != _PIXELS:
        raise objects.without_pixels(sop_class, floats=tag in _FLOAT_PIXELS)
    if syntax is None:
        native = EXPLICIT_BIG if big_endian else IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE
        syntax = UNKNOWN_ENCAPSULATED if length == UNDEFINED else native
    return Envelope(dataset, syntax, big_endian, length, words, content, value, inflater)


def _tags() -> list[Any]:
    from pydicom.datadict import tag_for_keyword

    return [tag_for_keyword(keyword) for keyword in _KEYWORDS]


def _at_pixels(tag: int, _representation: str | None, _length: int) -> bool:
    return tag >= _FLOAT_PIXELS[0]


def _file_meta(content: bytes) -> tuple[str | None, str, int]:
    """Return the transfer syntax (None if the file states none), the class of object, and the data set's place."""
    from pydicom.filereader import read_dataset

    start = next((place + 4 for place in (128, 0) if content[place : place + 4] == b"DICM"), 0)
    if not start and content[:128].count(0) == 128 and content[128:130] in (b"\2\0", b"\x08\0", b"\0\x08"):
        start = 128  # a preamble without the letters DICM
    file = io.BytesIO(content)
    file.seek(start)
    if content[start : start + 2] != b"\2\0":
        return None, "", start
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    return str(meta.get("TransferSyntaxUID") or "") or None, str(meta.get("MediaStorageSOPClassUID") or ""), file.tell()


def _guess(content: bytes, start: int) -> tuple[bool, bool]:
    """Return whether a data set without transfer syntax has implicit types, and whether it is big-endian."""
    implicit = not content[start + 4 : start + 6].isalpha()
    # The first group is a small number: 0008 as a rule.
    big_endian = int.from_bytes(content[start : start + 2], "little") >= 0x0400
    return implicit, big_endian


def _element(content: bytes, place: int, implicit: bool, big_endian: bool) -> tuple[int, bool, int, int]:
    """Return tag, whether the values are words, length and place of the value of the element at ``place``."""
    head = content[place : place + 12]
    order: Literal["big", "little"] = "big" if big_endian else "little"
    if len(head) < 12:
        return 0, False, 0, place
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    kind = head[4:6]
    if not implicit and kind in _LONG_LENGTH:
        return tag, kind == b"OW", int.from_bytes(head[8:12], order), place + 12
    if not implicit and kind.isalpha():
        return tag, False, int.from_bytes(head[6:8], order), place + 8
    return tag, True, int.from_bytes(head[4:8], order), place + 8
