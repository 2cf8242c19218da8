"""Decoder of DICOM files with one frame, within the same limits as other pictures.

Only the tags that describe pixels are parsed, never those of patient, study and device. No error, warning or log line
quotes a tag.

Source: DICOM PS3.3 C.7.6.3 (image pixel module), C.11.2.1.2 (window); PS3.5 A.4.1 (JPEG baseline).
"""

import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import jpeg, jpeg_file
from buckler.modality.picture.decode_budget import check_size

if TYPE_CHECKING:  # the import takes a quarter of a second; a service without DICOM files never spends it
    from pydicom import Dataset

IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
# Not the deflated one: its size is unknown before it is decompressed.
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

# Discard the log of pydicom, which quotes values. Setting the level would not last: pydicom sets it when it is loaded.
logging.getLogger("pydicom").addHandler(logging.NullHandler())
logging.getLogger("pydicom").propagate = False
# Its warnings quote values, too. A permanent filter: `warnings.catch_warnings` would change those of other threads.
warnings.filterwarnings("ignore", module=r"(pydicom\.|buckler\.modality\.picture\.dicom$)")


def decode(content: bytes, most_pixels: int) -> Image.Image:
    """Return the frame of a DICOM file as 8-bit RGB or grey.

    The file's first window maps stored grey values to brightness; without a window, the whole range of the stored bits
    does.

    Args:
        content: The file.
        most_pixels: Most pixels that are decoded.

    Raises:
        UnusableImageError: The file has several frames, an unsupported coding or colour model, too many pixels, or is
            damaged; ``code`` states the fault.
    """
    try:
        return _load(content, most_pixels)
    except UnusableImageError:
        raise
    except Exception:
        # Neither chained nor quoted: a parser's message may contain a patient's name. pydicom raises many types.
        raise UnusableImageError(
            ErrorCode.IMAGE_UNREADABLE, "expected a complete DICOM file, decoding failed"
        ) from None


def _load(content: bytes, most_pixels: int) -> Image.Image:
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    _check_transfer_syntax(content)
    dataset = dcmread(io.BytesIO(content), specific_tags=list(_TAGS))
    kind = _check(dataset, most_pixels)
    jpeg = dataset.file_meta.TransferSyntaxUID == JPEG_BASELINE
    stored = _from_jpeg(dataset, kind) if jpeg else pixel_array(dataset, raw=False)  # converts YBR to RGB
    if kind == "PALETTE COLOR":
        return Image.fromarray(_palette_to_rgb(dataset, stored))
    if SAMPLES[kind] == 3:
        return Image.fromarray((stored >> (dataset.BitsStored - 8)).astype(np.uint8))
    return Image.fromarray(_windowed(dataset, stored, inverted=kind == "MONOCHROME1"))


def _check_transfer_syntax(content: bytes) -> None:
    """Check the coding before anything behind it is read.

    `dcmread` decompresses a deflated file whatever it is asked to read: 10 MB become 10 GB.
    """
    from pydicom.filereader import _read_file_meta_info, read_preamble

    file = io.BytesIO(content)
    read_preamble(file, force=False)
    if _read_file_meta_info(file).TransferSyntaxUID not in TRANSFER_SYNTAXES:
        raise _unsupported("pixels uncompressed (little-endian) or as baseline JPEG")


def _unsupported(expected: str) -> UnusableImageError:
    return UnusableImageError(ErrorCode.IMAGE_UNSUPPORTED, f"expected a DICOM file with {expected}; convert it first")


def _check(dataset: "Dataset", most_pixels: int) -> str:
    """Check the header before any pixel is decoded; return the photometric interpretation."""
    kind, bits = str(dataset.PhotometricInterpretation), (int(dataset.BitsAllocated), int(dataset.BitsStored))
    expected = {
        f"the photometric interpretation {', '.join(SAMPLES)}": SAMPLES.get(kind) == dataset.SamplesPerPixel,
        "one frame": int(dataset.get("NumberOfFrames") or 1) == 1,
        "8 or 16 bits a sample": bits[0] in (8, 16) and 8 <= bits[1] <= bits[0],
        "unsigned colours": SAMPLES.get(kind) == 1 or int(dataset.PixelRepresentation) == 0,
    }
    for what, met in expected.items():
        if not met:
            raise _unsupported(what)
    check_size(int(dataset.Columns), int(dataset.Rows), most_pixels=most_pixels)
    return kind


def _from_jpeg(dataset: "Dataset", kind: str) -> NDArray[np.uint8]:
    """Decode the embedded JPEG; its size must be that of the DICOM header, which `_check` has checked.

    pydicom would convert the colours as floats, in a gigabyte and many seconds for the largest
    picture.
    """
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    file = jpeg_file.read(frame)
    if (file.width, file.height, len(file.components)) != (dataset.Columns, dataset.Rows, SAMPLES[kind]):
        raise UnusableImageError(
            ErrorCode.IMAGE_UNREADABLE, "expected a JPEG of the size and colours in the DICOM header"
        )
    # One scan for each colour in a baseline JPEG, but a file can have any number.
    check_size(file.width, file.height, file.scans)
    if file.frame in jpeg_file.PROGRESSIVE:
        raise UnusableImageError(ErrorCode.IMAGE_UNSUPPORTED, "expected a baseline JPEG in the DICOM file, got another")
    # Without Adobe's marker, three components are taken for YCbCr; the DICOM header states RGB.
    transform = jpeg.RGB if kind == "RGB" and file.adobe is None else None
    return np.asarray(jpeg.decode_pixels(file, transform=transform))


def _palette_to_rgb(dataset: "Dataset", stored: NDArray[Any]) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(stored, dataset)
    return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)


def _windowed(dataset: "Dataset", stored: NDArray[Any], *, inverted: bool) -> NDArray[np.uint8]:
    levels = 1 << int(dataset.BitsStored)
    low = -(levels // 2) if dataset.PixelRepresentation else 0
    # A table of all possible values needs much less memory than the picture as floats.
    brightness = _brightness(dataset, np.arange(low, low + levels, dtype=np.float64))
    table = np.rint(255 * (1 - brightness if inverted else brightness)).astype(np.uint8)
    return table[np.clip(stored.astype(np.int32) - low, 0, levels - 1)]


def _brightness(dataset: "Dataset", values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the brightness of each stored value, 0..1."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return np.asarray((values - values[0]) / (values[-1] - values[0]))
    if width < 1:
        raise ValueError(f"expected a window width of at least 1, got {width}")
    slope, intercept = _first(dataset.get("RescaleSlope")) or 1.0, _first(dataset.get("RescaleIntercept")) or 0.0
    # PS3.3 C.11.2.1.2.1; a window of width 1 is a threshold.
    share = (slope * values + intercept - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5
    return np.asarray(np.clip(share, 0, 1))


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value if isinstance(value, float | int) else value[0])
