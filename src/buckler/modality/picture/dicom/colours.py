"""Turns decoded samples into 8-bit RGB or grey pictures."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.modality.picture.dicom import grey, lookup
from buckler.modality.picture.dicom.codecs import Frame
from buckler.modality.picture.dicom.jpeg_stream import Colours
from buckler.modality.picture.dicom.samples import Cells

if TYPE_CHECKING:
    from pydicom import Dataset

_STRIP_CELLS = 1_000_000


def to_image(decoded: Frame, dataset: "Dataset", photometric: str, frame: int, *, big_endian: bool) -> Image.Image:
    """Return the picture: colours as RGB, grey values as the file's own display shows them.

    Args:
        decoded: The samples.
        dataset: The file's attributes.
        photometric: The photometric interpretation.
        frame: Number of the frame, from 0.
        big_endian: Byte order of lookup tables.

    Raises:
        UnusableImageError: A table or window is damaged.
    """
    if decoded.colours is not Colours.GREY:
        return _coloured(decoded)
    if photometric == "PALETTE COLOR":
        values = _values(np.arange(1 << min(decoded.stored, 16)), decoded)
        table = lookup.palette(dataset, values, big_endian=big_endian, signed=decoded.signed)
        return Image.fromarray(table[np.minimum(_codes(decoded), len(table) - 1)])
    display = grey.Display(dataset, frame, big_endian=big_endian, signed=decoded.signed)
    return Image.fromarray(_shown(decoded, display))


def _codes(decoded: Frame) -> Cells:
    """Return the samples without the cell's other bits, where overlays may lie."""
    cells = decoded.cells
    if decoded.low_bit == 0 and decoded.stored == 8 * cells.itemsize:
        return cells
    return np.asarray((cells >> decoded.low_bit) & cells.dtype.type((1 << decoded.stored) - 1), cells.dtype)


def _values(codes: NDArray[Any], decoded: Frame) -> NDArray[np.int64]:
    """Return the values of codes, which may be two's complements."""
    values = codes.astype(np.int64)
    return (
        np.where(values >> (decoded.stored - 1), values - (1 << decoded.stored), values) if decoded.signed else values
    )


def _coloured(decoded: Frame) -> Image.Image:
    codes: NDArray[Any] = _codes(decoded)
    if decoded.stored > 8:
        codes = codes >> (decoded.stored - 8)
    elif decoded.stored < 8:
        codes = codes.astype(np.uint16) * 255 // ((1 << decoded.stored) - 1)
    pixels = np.ascontiguousarray(codes, np.uint8)
    if decoded.colours is Colours.RGB:
        return Image.fromarray(pixels)
    height, width = pixels.shape[:2]
    return Image.frombuffer("YCbCr", (width, height), pixels, "raw", "YCbCr", 0, 1).convert("RGB")


def _shown(decoded: Frame, display: grey.Display) -> NDArray[np.uint8]:
    """Return the brightness of each pixel, 0..255.

    A table of all codes needs much less memory than the picture as floats; codes of 32 bits are converted in strips.
    """
    codes = _codes(decoded)
    half = 1 << (decoded.stored - 1)
    low, high = (-half, half - 1) if decoded.signed else (0, 2 * half - 1)

    def shown(some: NDArray[Any]) -> NDArray[np.uint8]:
        brightness = display.brightness(_values(some, decoded).astype(np.float64), low, high)
        return np.asarray(np.rint(255 * np.clip(brightness, 0, 1)), np.uint8)

    if decoded.stored <= 16:
        table = shown(np.arange(1 << decoded.stored))
        return table[codes]
    rows = max(1, _STRIP_CELLS // codes.shape[1])
    return np.concatenate([shown(codes[top : top + rows]) for top in range(0, len(codes), rows)])


def profile(decoded: Frame, dataset: "Dataset", photometric: str) -> bytes | None:
    """Return the ICC profile of colours: that of the file, or else of the compressed stream; None for grey values."""
    if photometric.startswith("MONOCHROME"):
        return None
    paths = dataset.get("OpticalPathSequence") or [dataset]
    found = dataset.get("ICCProfile") or paths[0].get("ICCProfile")
    return bytes(found) if found else decoded.profile
