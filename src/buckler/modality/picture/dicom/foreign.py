"""Decodes JPEG with more than 8 bits, JPEG-LS and JPEG 2000 with native libraries; runs in a bounded child process.

GDCM reports damage on the process's standard error only, and fills what is missing. Its messages are therefore caught,
and any message refuses the picture.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from buckler.modality.picture.child import Output
from buckler.modality.picture.dicom.refusals import unreadable, unsupported

_STANDARD_ERROR = 2
# GDCM tries the library for 8 bits first, and the one for 12 bits when this one refuses.
_HARMLESS = (b"Unsupported JPEG data precision 12", b"Invalid SOS parameters for sequential JPEG")
_MOST_MESSAGES = 65_536


def jpeg(stream: bytes, syntax: str, columns: int, rows: int, components: int, precision: int) -> Output:
    """Return the samples of a JPEG or JPEG-LS stream, uint8 or uint16, ``(rows, columns)`` or ``(rows, columns, 3)``.

    Args:
        stream: The stream, whose header states the sides, components and precision.
        syntax: Identifier of a transfer syntax of the stream's kind.
        columns, rows, components, precision: As in the stream's header.

    Raises:
        UnusableImageError: The stream is damaged.
    """
    with _no_message("JPEG"):
        decoded = _gdcm(stream, syntax, columns, rows, components, precision)
    width = 1 if precision <= 8 else 2
    if decoded is None or len(decoded) != columns * rows * components * width:
        raise unreadable("a whole JPEG stream in PixelData", "one that is cut off or damaged")
    shape = (rows, columns) if components == 1 else (rows, columns, components)
    return Output(np.frombuffer(decoded, f"u{width}").reshape(shape))


def _gdcm(stream: bytes, syntax: str, columns: int, rows: int, components: int, precision: int) -> bytes | None:
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kinds = gdcm.PhotometricInterpretation
    kind = kinds.GetPIType("MONOCHROME2" if components == 1 else "RGB")  # converts nothing
    image.SetPhotometricInterpretation(kinds(kind))
    if components > 1:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    cell = 8 if precision <= 8 else 16
    image.SetPixelFormat(gdcm.PixelFormat(components, cell, precision, precision - 1, 0))
    decoded = image.GetBuffer()  # bytes, which the binding takes for text; None after an error
    return None if decoded is None else decoded.encode("utf-8", "surrogateescape")


def jpeg2000(stream: bytes, columns: int, rows: int, components: int, precision: int, signed: bool) -> Output:
    """Return the samples of a JPEG 2000 codestream: grey as uint8 or uint16 cells, colours as uint8.

    Negative samples become two's complements of ``precision`` bits; colours of more than 8 bits lose the lower ones.

    Raises:
        UnusableImageError: The codestream is damaged, or has more than 16 bits.
    """
    if precision > 16 or components not in (1, 3) or (signed and components == 3):
        raise unsupported("JPEG 2000 with unsigned colours or grey of up to 16 bits", "another")
    with _no_message("JPEG 2000"):
        try:
            with Image.open(io.BytesIO(stream), formats=["JPEG2000"]) as image:
                decoded = np.asarray(image)
        except Exception:
            decoded = None
    shape = (rows, columns) if components == 1 else (rows, columns, components)
    if decoded is None or decoded.shape != shape:
        raise unreadable("a whole JPEG 2000 codestream in PixelData", "one that is cut off or damaged")
    if components == 3:
        return Output(decoded)
    # Pillow fills its cells from the top, and adds half the range to signed samples.
    cells = decoded >> ((8 if precision <= 8 else 16) - precision)
    return Output(cells ^ (1 << (precision - 1)) if signed else cells)


@contextmanager
def _no_message(kind: str) -> Iterator[None]:
    """Refuse the picture if the libraries write anything to standard error, which is restored afterwards."""
    kept = os.dup(_STANDARD_ERROR)
    # A pipe that is full drops further messages instead of stopping the writer. The child can write no file.
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    try:
        os.dup2(write_end, _STANDARD_ERROR)
        try:
            yield
        finally:
            os.dup2(kept, _STANDARD_ERROR)
            os.close(kept)
            os.close(write_end)
        messages = os.read(read_end, _MOST_MESSAGES)
    finally:
        os.close(read_end)
    if any(not line.startswith(_HARMLESS) for line in messages.splitlines()):
        raise unreadable(f"a whole {kind} stream in PixelData", "one with damaged or missing data")
