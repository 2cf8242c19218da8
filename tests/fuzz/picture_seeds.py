"""Valid pictures of every kind that the decoder knows."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests.fuzz.table import Inputs
from tests.malformed import SECRET
from tests.picture_bytes import PNG, chunk, exif, header, noise, repeated_scan, rows, saved, segment
from tests.unit.modality.picture.dicom_files import dicom, jpeg_dicom

SMALL = 12


def jpeg_inputs() -> Inputs:
    small = noise(side=SMALL)
    orientation = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    plain = saved(small)
    return {
        "rgb": plain,
        "grey": saved(small.convert("L")),
        "cmyk": saved(small.convert("CMYK")),
        "progressive": saved(small, progressive=True),
        "repeated scans": repeated_scan(saved(small, progressive=True), 3),
        "restarts": saved(small, restart_marker_blocks=1),
        "subsampled": saved(small, subsampling=2),
        "turned": plain[:2] + exif(orientation, 1) + plain[2:],
        "comment": plain[:2] + segment(0xFE, SECRET.encode()) + plain[2:],
        "stray bytes": plain[:2] + bytes(40) + plain[2:],
        "several pictures": plain[:2] + _several(len(plain)) + plain[2:] + plain,
    }


def _several(size: int) -> bytes:
    """Return the segment of a multi-picture file with two pictures."""
    entries = struct.pack(">IIIHH", 0x030000, size, 0, 0, 0) + struct.pack(">IIIHH", 0, size, size, 0, 0)
    fields = struct.pack(">HHI4s", 0xB000, 7, 4, b"0100") + struct.pack(">HHII", 0xB001, 4, 1, 2)
    fields += struct.pack(">HHII", 0xB002, 7, 32, 50)
    return segment(0xE2, b"MPF\0MM\0*\0\0\0\x08" + struct.pack(">H", 3) + fields + bytes(4) + entries)


def png_inputs() -> Inputs:
    small = noise(side=SMALL)
    found = {mode: saved(small.convert(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")}
    grey = Image.fromarray(np.arange(SMALL * SMALL, dtype=np.uint16).reshape(SMALL, SMALL) * 300)
    interlaced = PNG + header(4, 4, 8, 0, 0, 0, 1) + chunk(b"IDAT", _interlaced()) + chunk(b"IEND")
    animated = PNG + header(4, 4) + chunk(b"acTL", struct.pack(">II", 2, 0))
    animated += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 4, 4, 0, 0, 1, 1, 0, 0)) + chunk(b"IDAT", rows(4, 4))
    between = chunk(b"tRNS", bytes(6)) + chunk(b"gAMA", bytes(3) + b"\1") + chunk(b"zTXt", b"k\0\0" + rows(9, 9))
    orientation = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", 1, 0x0112, 3, 1, 6, 0) + bytes(4)
    return found | {
        "grey16": saved(grey, "PNG"),
        "interlaced": interlaced,
        "animated": animated + chunk(b"IEND"),
        "many chunks": PNG + header(4, 4) + between + chunk(b"eXIf", orientation) + chunk(b"IDAT", rows(4, 4)),
        "profile": saved(small, "PNG", icc_profile=bytes(128)),
        "text": PNG + header(4, 4) + chunk(b"tEXt", b"name\0" + SECRET.encode()) + chunk(b"IDAT", rows(4, 4)),
    }


def _interlaced() -> bytes:
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2))  # the passes of 4 x 4 pixels that are not empty
    return zlib.compress(b"".join(bytes(1 + width) * height for width, height in passes))


def dicom_inputs() -> Inputs:
    rgb = np.asarray(noise(side=8))
    grey = rgb[..., 0]
    palette = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", bytes(512)))
    }
    segmented = {name: value for name, value in palette.items() if name.endswith("Descriptor")}
    for colour in ("Red", "Green", "Blue"):
        segmented[f"Segmented{colour}PaletteColorLookupTableData"] = struct.pack("<6H", 0, 1, 5, 1, 255, 900)
    jpeg = encapsulate([saved(noise(side=8))])
    return {
        "rgb": dicom(rgb, "RGB"),
        "planes": dicom(rgb, "RGB", PlanarConfiguration=1),
        "ybr": dicom(rgb, "YBR_FULL"),
        "grey": dicom(grey, "MONOCHROME2"),
        "inverted": dicom(grey, "MONOCHROME1"),
        "windowed": dicom(grey.astype(np.uint16), "MONOCHROME2", WindowCenter=100, WindowWidth=50, BitsStored=12),
        "signed": dicom(grey.astype(np.int16), "MONOCHROME2", RescaleSlope=2, RescaleIntercept=-5),
        "palette": dicom(grey, "PALETTE COLOR", **palette),
        "implicit": dicom(grey, "MONOCHROME2", syntax=ImplicitVRLittleEndian),
        "deflated": dicom(grey, "MONOCHROME2", syntax=DeflatedExplicitVRLittleEndian),
        "jpeg": jpeg_dicom(noise(side=8)),
        "jpeg rgb": dicom(jpeg, "RGB", syntax=JPEGBaseline8Bit, Rows=8, Columns=8),
        "big endian": dicom(grey, "MONOCHROME2", syntax=ExplicitVRBigEndian),
        "frames": dicom(rgb, "MONOCHROME2", Rows=8, Columns=8, NumberOfFrames=3),
        "segments": dicom(grey, "PALETTE COLOR", **segmented),
        "rle": dicom(encapsulate([_run_lengths()]), "MONOCHROME2", syntax=RLELossless, Rows=2, Columns=4),
        "jpeg 2000": dicom(encapsulate([_jpeg_2000()]), "YBR_RCT", syntax=JPEG2000Lossless, Rows=8, Columns=8),
    }


def _run_lengths() -> bytes:
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"\xfd\2\3abcd"


def _jpeg_2000() -> bytes:
    buffer = io.BytesIO()
    noise(side=8).save(buffer, "JPEG2000", no_jp2=True, mct=1)
    return buffer.getvalue()
