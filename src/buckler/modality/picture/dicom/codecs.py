"""Decodes compressed frames: chooses the decoder by transfer syntax and stream, which must agree."""

from dataclasses import dataclass

import numpy as np

from buckler.modality.picture import child, jpeg, jpeg_file
from buckler.modality.picture.decode_budget import check_size
from buckler.modality.picture.dicom import jpeg2000, jpeg_stream, objects
from buckler.modality.picture.dicom.header import Header
from buckler.modality.picture.dicom.jpeg_stream import Colours
from buckler.modality.picture.dicom.refusals import unreadable, unsupported
from buckler.modality.picture.dicom.samples import Cells

_ROOT = "1.2.840.10008.1.2."
RLE = f"{_ROOT}5"
_JPEG = {f"{_ROOT}4.{number}" for number in (*range(50, 67), 70)}
_JPEG_LS = {f"{_ROOT}4.{number}" for number in (80, 81)}
_JPEG_2000 = {f"{_ROOT}4.{number}" for number in (90, 91, 201, 202, 203)}
DEFLATED_FRAMES = f"{_ROOT}8.1"
COMPRESSED = {RLE, DEFLATED_FRAMES, *_JPEG, *_JPEG_LS, *_JPEG_2000}

# GDCM names the kinds of streams by transfer syntax.
_GDCM_LOSSLESS, _GDCM_EXTENDED, _GDCM_JPEG_LS = f"{_ROOT}4.57", f"{_ROOT}4.51", f"{_ROOT}4.81"
_PACKAGE = "buckler.modality.picture.dicom"
_JPEG_DECODER, _JPEG_2000_DECODER = f"{_PACKAGE}.foreign:jpeg", f"{_PACKAGE}.foreign:jpeg2000"
_RUN_LENGTH = f"{_PACKAGE}.run_length:decode"


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame.

    Attributes:
        cells: The samples in their cells.
        colours: What the samples are.
        stored: Bits of a sample.
        low_bit: Place of a sample's lowest bit in its cell.
        signed: Samples are two's complements.
        profile: ICC profile in the stream; None without.
    """

    cells: Cells
    colours: Colours
    stored: int
    low_bit: int
    signed: bool
    profile: bytes | None = None

    @classmethod
    def of(
        cls, header: Header, cells: Cells, colours: Colours, *, signed: bool = False, profile: bytes | None = None
    ) -> "Frame":
        """Return cells that are filled as the DICOM header states; ``signed`` if the stream states it, too."""
        return cls(cells, colours, header.stored, header.low_bit, header.signed or signed, profile)


def decode(stream: bytes, syntax: str, header: Header) -> Frame:
    """Return the decoded frame.

    Args:
        stream: The compressed frame.
        syntax: Identifier of the transfer syntax, of `COMPRESSED`; empty if unknown.
        header: The DICOM header.

    Raises:
        UnusableImageError: The stream is damaged, contradicts the header, or has a kind that is not decoded.
    """
    if syntax == RLE:
        shape = (header.columns, header.rows, header.samples)
        arguments = (*shape, header.allocated)
        cells = _in_child(_RUN_LENGTH, stream, *arguments, pixels=header.columns * header.rows)
        return Frame.of(header, cells, by_label(header))
    if stream.startswith((jpeg2000.CODESTREAM, jpeg2000.JP2)):
        _check_family(syntax, _JPEG_2000, "JPEG 2000")
        return _decode_jpeg2000(jpeg2000.read(stream), header)
    if not stream.startswith(b"\xff\xd8"):
        raise unreadable("a compressed picture in PixelData as TransferSyntaxUID states", "other bytes")
    stream = jpeg_stream.ended(stream)
    if loco := jpeg_stream.jpeg_ls(stream):
        _check_family(syntax, _JPEG_LS, "JPEG-LS")
        _check(header, loco.columns, loco.rows, loco.components, loco.precision)
        cells = _gdcm(stream, _GDCM_JPEG_LS, header, loco.precision)
        return Frame.of(header, cells, by_label(header))
    _check_family(syntax, _JPEG, "JPEG")
    return _decode_jpeg(stream, header)


def _check_family(syntax: str, family: set[str], name: str) -> None:
    if syntax and syntax not in family:
        raise unreadable(f"a stream as TransferSyntaxUID {objects.syntax_name(syntax)} states", f"{name}")


def _check(header: Header, columns: int, rows: int, components: int, precision: int) -> None:
    """Compare the header of a stream with that of the file."""
    stated = (header.columns, header.rows, header.samples)
    if (columns, rows, components) != stated:
        raise unreadable("Rows, Columns and SamplesPerPixel as in the compressed stream", "others")
    # A stream may use fewer bits than it has, but not have fewer than the header states: brightness would be wrong.
    if not header.stored <= precision <= header.allocated:
        raise unreadable(f"BitsStored as in the compressed stream ({precision})", f"{header.stored}")


def _decode_jpeg(stream: bytes, header: Header) -> Frame:
    file = jpeg_file.read(stream)
    _check(header, file.width, file.height, len(file.components), file.precision)
    colours = jpeg_stream.colours(file, header.photometric)
    lossless = file.frame in jpeg_file.LOSSLESS
    if file.precision == 8:
        check_size(file.width, file.height, file.scans)
        convert = colours is Colours.YBR and not lossless  # the decoder converts no lossless ones
        transform = None if colours is Colours.GREY else jpeg.YCBCR if convert else jpeg.RGB
        cells = np.asarray(jpeg.decode_pixels(file, transform=transform))
        return Frame.of(header, cells, Colours.RGB if convert else colours, profile=file.profile)
    cells = _gdcm(stream, _GDCM_LOSSLESS if lossless else _GDCM_EXTENDED, header, file.precision)
    return Frame.of(header, cells, colours, profile=file.profile)


def _gdcm(stream: bytes, syntax: str, header: Header, precision: int) -> Cells:
    shape = (header.columns, header.rows, header.samples)
    return _in_child(_JPEG_DECODER, stream, syntax, *shape, precision, pixels=header.columns * header.rows)


def _in_child(decoder: str, stream: bytes, *arguments: object, pixels: int) -> Cells:
    return child.run(decoder, stream, *arguments, most_pixels=pixels).pixels


def _decode_jpeg2000(found: jpeg2000.Codestream, header: Header) -> Frame:
    _check(header, found.columns, found.rows, found.components, found.precision)
    shape = (found.columns, found.rows, found.components)
    pixels = found.columns * found.rows
    cells = _in_child(_JPEG_2000_DECODER, found.data, *shape, found.precision, found.signed, pixels=pixels)
    if found.components == 1:
        return Frame.of(header, cells, Colours.GREY, signed=found.signed)
    if header.stored != found.precision:
        raise unreadable(f"BitsStored as in the JPEG 2000 codestream ({found.precision})", f"{header.stored}")
    ybr = found.sycc or header.photometric.startswith("YBR_FULL")
    if found.transformed and ybr:
        raise unreadable(
            "one statement about the colours of the JPEG 2000 codestream",
            "a transform of RGB and the PhotometricInterpretation YBR at once",
        )
    return Frame(cells, Colours.YBR if ybr else Colours.RGB, 8, 0, signed=False)


def by_label(header: Header, *, paired: bool = False) -> Colours:
    """Return what samples are where nothing but the header states it."""
    if header.samples == 1:
        return Colours.GREY
    if header.photometric not in (allowed := ("RGB", "YBR_FULL", "YBR_FULL_422")[: 3 if paired else 2]):
        raise unsupported(f"the PhotometricInterpretation {' or '.join(allowed)} of this coding", header.photometric)
    return Colours.RGB if header.photometric == "RGB" else Colours.YBR
