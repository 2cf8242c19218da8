"""Compresses DICOM files with GDCM, and exchanges what is inside them."""

import io
import tempfile
from pathlib import Path

import gdcm
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames

from buckler.errors import UnusableImageError
from buckler.modality.picture import images
from tests.unit.modality.picture.dicom_files import PATIENT

JPEG_BASELINE, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEG_LS, JPEG_LS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS, JPEG_2000 = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
RLE = "1.2.840.10008.1.2.5"


def compressed(content: bytes, syntax: str) -> bytes:
    """Return an uncompressed file in another transfer syntax."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        source.write_bytes(content)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()


def stream_of(content: bytes) -> bytes:
    """Return the compressed frame of a file with one."""
    return next(generate_frames(dcmread(io.BytesIO(content)).PixelData, number_of_frames=1))


def changed(content: bytes, *, stream: bytes | None = None, syntax: str | None = None, **tags: object) -> bytes:
    """Return a file with another compressed frame, transfer syntax or attributes; None deletes an attribute."""
    dataset = dcmread(io.BytesIO(content))
    if stream is not None:
        dataset.PixelData = encapsulate([stream])
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def with_syntax(content: bytes, uid: str) -> bytes:
    """Return a file that states another transfer syntax, also one that pydicom does not write."""
    start = content.find(b"\2\0\x10\0UI")
    length = int.from_bytes(content[start + 6 : start + 8], "little")
    value = uid.encode() + b"\0" * (len(uid) % 2)
    head = content[: start + 6] + len(value).to_bytes(2, "little")
    return head + value + content[start + 8 + length :]


def decoded(content: bytes) -> np.ndarray:
    """Return the pixels of a file as the service sees them, (rows, columns, 3)."""
    return np.asarray(images.load_image(content))


def refusal(content: bytes) -> str:
    """Return code and message of a refused file, without a patient's name in it; fails if the file is accepted."""
    with pytest.raises(UnusableImageError, match=r"^expected ") as caught:
        images.load_image(content)
    # The error of pydicom, which may quote a tag, must not be its cause either.
    assert PATIENT[:10] not in f"{caught.value} {caught.value.__cause__!r}"
    return f"{caught.value.code}: {caught.value}"


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    """Return a JPEG file, with JFIF's marker."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 95, "subsampling": 0, **options})
    return buffer.getvalue()
