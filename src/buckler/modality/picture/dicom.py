"""DICOM files to pictures: one frame, within the pixel budget; of the file's tags only those that describe pixels.

Patient, study and device are never read: `pydicom` is told the tags it may parse, and no error or warning quotes one.

Source: DICOM PS3.3 C.7.6.3 (image pixel module), C.11.2.1.2 (window); PS3.5 A.4.1 (JPEG baseline).
"""

import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.errors import UnusableImageError
from buckler.modality.picture import images

if TYPE_CHECKING:  # takes a quarter of a second, which a service that sees no DICOM need not spend
    from pydicom import Dataset

MAGIC = b"DICM"
PREAMBLE = 128  # bytes before it

IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
# Not the deflated one: what it unfolds to is not known before it is unfolded.
TRANSFER_SYNTAXES = (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN, JPEG_BASELINE)
SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3}

_PALETTE = [
    f"{color}PaletteColorLookupTable{part}" for color in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")
]
_TAGS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
    *_PALETTE,
)

# What it and its modules log ends here: it quotes values. Not by its level, which pydicom sets when it is first loaded.
logging.getLogger("pydicom").addHandler(logging.NullHandler())
logging.getLogger("pydicom").propagate = False


def is_dicom(content: bytes) -> bool:
    """Tell whether ``content`` begins as a DICOM file does."""
    return content[PREAMBLE : PREAMBLE + len(MAGIC)] == MAGIC


def load_image(content: bytes) -> Image.Image:
    """Return the one frame of a DICOM file as 8-bit RGB or grey.

    Grey is shown through the file's first window, without one over the whole range of its bits.

    Raises:
        UnusableImageError: It has several frames, a coding or colour model that is not read, more pixels than the
            budget, or is damaged; ``code`` says which.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            return _load(content)
    except UnusableImageError:
        raise
    except Exception:
        # Neither chained nor quoted: a parser's message may hold a patient's name. pydicom, as Pillow, promises no
        # closed set of errors.
        raise UnusableImageError("image_unreadable", "expected a complete DICOM file, decoding failed") from None


def _load(content: bytes) -> Image.Image:
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    dataset = dcmread(io.BytesIO(content), specific_tags=list(_TAGS))
    kind = _check(dataset)
    jpeg = dataset.file_meta.TransferSyntaxUID == JPEG_BASELINE
    stored = _from_jpeg(dataset, kind) if jpeg else pixel_array(dataset, raw=False)  # as RGB where it is YBR
    if kind == "PALETTE COLOR":
        return Image.fromarray(_painted(dataset, stored))
    if SAMPLES[kind] == 3:
        return Image.fromarray((stored >> (dataset.BitsStored - 8)).astype(np.uint8))
    return Image.fromarray(_windowed(dataset, stored, inverted=kind == "MONOCHROME1"))


def _check(dataset: "Dataset") -> str:
    """Return the photometric interpretation of what may be decoded; all of it stands in the header."""
    kind, bits = str(dataset.PhotometricInterpretation), (int(dataset.BitsAllocated), int(dataset.BitsStored))
    expected = {
        "its pixels uncompressed (little-endian) or as baseline JPEG": dataset.file_meta.TransferSyntaxUID
        in TRANSFER_SYNTAXES,
        f"the photometric interpretation {', '.join(SAMPLES)}": SAMPLES.get(kind) == dataset.SamplesPerPixel,
        "one frame": int(dataset.get("NumberOfFrames") or 1) == 1,
        "8 or 16 bits a sample": bits[0] in (8, 16) and 8 <= bits[1] <= bits[0],
        "unsigned colours": SAMPLES.get(kind) == 1 or int(dataset.PixelRepresentation) == 0,
    }
    for what, met in expected.items():
        if not met:
            raise UnusableImageError("image_unsupported", f"expected a DICOM file with {what}; convert it first")
    images.check_budget(int(dataset.Columns), int(dataset.Rows))
    return kind


def _from_jpeg(dataset: "Dataset", kind: str) -> NDArray[np.uint8]:
    """Decode the JPEG inside, held to the header around it, which says how much will be decoded.

    By Pillow itself: pydicom converts its colours as floats, a gigabyte and many seconds for the largest picture.
    """
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    images.check_parts("JPEG", frame)
    with Image.open(io.BytesIO(frame), formats=["JPEG"]) as image:
        if (*image.size, len(image.getbands())) != (dataset.Columns, dataset.Rows, SAMPLES[kind]):
            raise UnusableImageError("image_unreadable", "expected a JPEG of the sides that the DICOM header states")
        if image.info.get("progressive"):  # its many scans may each cover the whole picture
            raise UnusableImageError("image_unsupported", "expected a baseline JPEG in the DICOM file, got another")
        if kind == "RGB" and "adobe_transform" not in image.info:
            # Three components without Adobe's mark: Pillow takes them for YCbCr, the header says they are not.
            image.draft("YCbCr", image.size)
        return np.asarray(image)


def _painted(dataset: "Dataset", stored: NDArray[Any]) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(stored, dataset)
    return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)


def _windowed(dataset: "Dataset", stored: NDArray[Any], *, inverted: bool) -> NDArray[np.uint8]:
    levels = 1 << int(dataset.BitsStored)
    low = -(levels // 2) if dataset.PixelRepresentation else 0
    # A table of all values that there can be: much smaller than the picture in floats.
    shown = _shown(dataset, np.arange(low, low + levels, dtype=np.float64))
    table = np.rint(255 * (1 - shown if inverted else shown)).astype(np.uint8)
    return table[np.clip(stored.astype(np.int32) - low, 0, levels - 1)]


def _shown(dataset: "Dataset", values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how bright each stored value is shown, 0..1."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return np.asarray((values - values[0]) / (values[-1] - values[0]))
    if width < 1:
        raise ValueError("a window is at least one wide")
    slope, intercept = _first(dataset.get("RescaleSlope")) or 1.0, _first(dataset.get("RescaleIntercept")) or 0.0
    # PS3.3 C.11.2.1.2.1; a window of one is a threshold.
    share = (slope * values + intercept - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5
    return np.asarray(np.clip(share, 0, 1))


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value if isinstance(value, float | int) else value[0])
