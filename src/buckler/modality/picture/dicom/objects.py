"""Names what a DICOM file holds when it holds no picture, and transfer syntaxes that are not decoded.

Source: DICOM PS3.6, annex A (registry of unique identifiers).
"""

import re
from typing import TYPE_CHECKING

from buckler.errors import UnusableImageError
from buckler.modality.picture.dicom.refusals import unreadable, unsupported

if TYPE_CHECKING:
    from pydicom import Dataset

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_WITHOUT_PICTURE = {
    "1.2.840.10008.1.3.10": "a directory of files (DICOMDIR)",
    f"{_STORAGE}104.1": "an encapsulated PDF",
    f"{_STORAGE}104.2": "an encapsulated CDA document",
    f"{_STORAGE}104.": "an encapsulated model for 3D printing",
    f"{_STORAGE}88.59": "a key object selection",
    f"{_STORAGE}88.": "a structured report",
    f"{_STORAGE}9.": "a waveform",
    f"{_STORAGE}11.": "a presentation state",
    f"{_STORAGE}30": "a parametric map",
    f"{_STORAGE}66.1": "a spatial registration",
    f"{_STORAGE}66.3": "a spatial registration",
    f"{_STORAGE}66.2": "a set of spatial fiducials",
    f"{_STORAGE}66.4": "a segmentation",
    f"{_STORAGE}66.5": "a surface segmentation",
    f"{_STORAGE}66.7": "a segmentation",
    f"{_STORAGE}66": "raw data",
    f"{_STORAGE}67": "a real-world value mapping",
    f"{_STORAGE}68.": "a surface scan",
    f"{_STORAGE}481.2": "a radiotherapy dose",
    f"{_STORAGE}481.3": "a radiotherapy structure set",
    f"{_STORAGE}481.5": "a radiotherapy plan",
    f"{_STORAGE}481.8": "a radiotherapy plan",
    f"{_STORAGE}481.4": "a radiotherapy treatment record",
    f"{_STORAGE}481.6": "a radiotherapy treatment record",
    f"{_STORAGE}481.7": "a radiotherapy treatment record",
    f"{_STORAGE}481.9": "a radiotherapy treatment record",
}
_BY_CONTENT = {
    "EncapsulatedDocument": "an encapsulated document",
    "ContentSequence": "a structured report",
    "WaveformSequence": "a waveform",
    "StructureSetROISequence": "a radiotherapy structure set",
    "DirectoryRecordSequence": "a directory of files (DICOMDIR)",
}
CONTENT_KEYWORDS = tuple(_BY_CONTENT)

_NEWER_SYNTAXES = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
_STANDARD_SYNTAX = re.compile(r"1\.2\.840\.10008\.1\.2(\.[0-9]{1,4}){0,4}")


def check_is_picture(dataset: "Dataset", sop_class: str) -> None:
    """Refuse documents, reports and other objects whose pixels, if any, are no picture.

    Raises:
        UnusableImageError: The file holds something else, which the message names.
    """
    names = [name for root, name in _WITHOUT_PICTURE.items() if _matches(sop_class, root)]
    names += [name for keyword, name in _BY_CONTENT.items() if keyword in dataset]
    if names:
        raise unsupported("a picture", names[0], "send a picture")


def _matches(sop_class: str, root: str) -> bool:
    return sop_class.startswith(root) if root.endswith(".") else sop_class == root


def without_pixels(sop_class: str, *, floats: bool) -> UnusableImageError:
    """Return the error of a file without pixel data: its kind, if the standard has a name for it."""
    if floats:
        return unsupported("whole numbers as PixelData", "floating-point numbers (FloatPixelData)")
    name = _registered(sop_class)
    if name and " Image " not in name:
        return unsupported("a picture", f"the object {name}", "send a picture")
    return unreadable("the attribute PixelData", "none; the file holds no picture or is cut off")


def syntax_name(uid: str) -> str:
    """Return name and identifier of a transfer syntax of the standard; no others are quoted."""
    if not _STANDARD_SYNTAX.fullmatch(uid):
        return "a private or unknown transfer syntax"
    name = _NEWER_SYNTAXES.get(uid, _registered(uid))
    return f"{name} ({uid})" if name else f"the transfer syntax {uid}"


def _registered(uid: str) -> str:
    """Return the name of an identifier in pydicom's copy of the registry; empty if it has none."""
    from pydicom.uid import UID

    name = UID(uid).name
    return "" if name == uid else name.split(":")[0]
