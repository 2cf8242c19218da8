"""Builds DICOM files as a dermatoscope might write them, with a patient's name."""

import io

import numpy as np
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

PATIENT = "Mustermann^Erika"
VL_PHOTOGRAPHIC = "1.2.840.10008.5.1.4.1.1.77.1.4"


def dicom(pixels: np.ndarray | bytes, photometric: str, *, syntax: str = ExplicitVRLittleEndian, **tags) -> bytes:
    """Return a file with ``pixels`` (rows, columns[, 3]); for bytes, ``tags`` must have ``Rows`` and ``Columns``."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, VL_PHOTOGRAPHIC
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["buckler"])
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = VL_PHOTOGRAPHIC, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID = PATIENT, "GEHEIM-4711"
    dataset.PhotometricInterpretation = photometric
    dataset.SamplesPerPixel = 3 if photometric.startswith(("RGB", "YBR")) else 1
    bits = 8
    if isinstance(pixels, np.ndarray):
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        bits = 8 * pixels.dtype.itemsize
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    else:
        dataset.PixelRepresentation = 0
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    for name, value in tags.items():
        setattr(dataset, name, value)
    content = pixels.tobytes() if isinstance(pixels, np.ndarray) else pixels
    dataset.PixelData = content if len(content) % 2 == 0 else content + b"\0"
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def jpeg_dicom(image: Image.Image, photometric: str = "YBR_FULL_422", **tags) -> bytes:
    """Return a file with ``image`` as baseline JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    sides = {"Rows": image.height, "Columns": image.width}
    return dicom(encapsulate([buffer.getvalue()]), photometric, syntax=JPEGBaseline8Bit, **{**sides, **tags})
