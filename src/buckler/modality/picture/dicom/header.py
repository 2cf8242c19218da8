"""Reads and checks the attributes that describe the pixels of a DICOM file, before any pixel is decoded.

Source: DICOM PS3.3, C.7.6.3 (image pixel module).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buckler.modality.picture.decode_budget import check_size
from buckler.modality.picture.dicom.refusals import unreadable, unsupported

if TYPE_CHECKING:
    from pydicom import Dataset

SAMPLES = {
    **dict.fromkeys(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"), 1),
    **dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"), 3),
}
_NOT_DECODED = ("HSV", "ARGB", "CMYK", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "XYB")


@dataclass(frozen=True, slots=True)
class Header:
    """The pixels of a file, as its header states them.

    Attributes:
        columns, rows: Width and height in pixels.
        photometric: One of `SAMPLES`, which has the number of samples per pixel.
        allocated, stored: Bits of a sample: of the cell that holds it, and of its value.
        low_bit: Place of the value's lowest bit in its cell.
        signed: Values are two's complements.
        by_plane: Uncompressed colours are stored plane by plane.
        frames: Number of frames.
    """

    columns: int
    rows: int
    photometric: str
    allocated: int
    stored: int
    low_bit: int
    signed: bool
    by_plane: bool
    frames: int

    @property
    def samples(self) -> int:
        """Samples of a pixel: 1 or 3."""
        return SAMPLES[self.photometric]


def read(dataset: "Dataset", most_pixels: int) -> Header:
    """Return the checked header.

    Raises:
        UnusableImageError: An attribute is missing, has a value that is not decoded, or contradicts another; the
            picture has too many pixels.
    """
    photometric = _photometric(dataset)
    columns, rows = (integer(dataset, keyword) for keyword in ("Columns", "Rows"))
    if min(columns, rows) < 1:
        raise unreadable("Rows and Columns of at least 1", "0 or less")
    check_size(columns, rows, most_pixels=most_pixels)
    allocated = integer(dataset, "BitsAllocated")
    stored = integer(dataset, "BitsStored", allocated)
    high = integer(dataset, "HighBit", stored - 1)
    signed = integer(dataset, "PixelRepresentation", 0)
    planar = integer(dataset, "PlanarConfiguration", 0)
    samples = integer(dataset, "SamplesPerPixel", SAMPLES[photometric])
    _require("SamplesPerPixel as PhotometricInterpretation has it", samples == SAMPLES[photometric])
    _require("1, 8, 16 or 32 bits a sample (BitsAllocated)", allocated in (1, 8, 16, 32))
    _require("BitsStored between 1 and BitsAllocated", 1 <= stored <= allocated)
    _require("HighBit between BitsStored - 1 and BitsAllocated - 1", stored - 1 <= high < allocated)
    _require("PixelRepresentation of 0 or 1, for colours of 0", signed == 0 or (signed == 1 and samples == 1))
    _require("PlanarConfiguration of 0 or 1", planar in (0, 1))
    _require("colours of at least 8 bits (BitsAllocated)", samples == 1 or allocated >= 8)
    frames = max(1, integer(dataset, "NumberOfFrames", 1))
    return Header(columns, rows, photometric, allocated, stored, high + 1 - stored, signed == 1, planar == 1, frames)


def _photometric(dataset: "Dataset") -> str:
    photometric = str(value(dataset, "PhotometricInterpretation", str) or "").strip()
    if not photometric:
        raise unreadable("the attribute PhotometricInterpretation", "none")
    if photometric not in SAMPLES:
        got = photometric if photometric in _NOT_DECODED else "another"
        raise unsupported(f"the PhotometricInterpretation {', '.join(SAMPLES)}", got)
    return photometric


def _require(expected: str, met: bool) -> None:
    if not met:
        raise unsupported(expected, "another value")


def integer(dataset: "Dataset", keyword: str, default: int | None = None) -> int:
    """Return the value of an attribute; ``default`` if it is missing or empty.

    Raises:
        UnusableImageError: It is no integer, or is missing and has no default.
    """
    found = value(dataset, keyword, int)
    if found is None:
        found = default
    if found is None:
        raise unreadable(f"the attribute {keyword}", "none")
    return int(found)


def value(dataset: "Dataset", keyword: str, convert: Callable[[Any], Any]) -> Any:
    """Return the converted first value of an attribute; None if it is missing or empty.

    Raises:
        UnusableImageError: The value cannot be converted.
    """
    try:
        found = dataset.get(keyword)
        if found is not None and not isinstance(found, str | int | float):
            found = found[0] if len(found) else None
        return None if found is None or found == "" else convert(found)
    except Exception:  # pydicom raises many types, whose messages quote values
        raise unreadable(f"a valid value of the attribute {keyword}", "another") from None
