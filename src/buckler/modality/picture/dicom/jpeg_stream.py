"""What the streams of JPEG and JPEG-LS state about themselves and their colours.

Source: ITU-T T.81, annex B (JPEG); T.87, annex C (JPEG-LS); T.871 (JFIF); T.872, 6.5.3 (Adobe's marker).
"""

from dataclasses import dataclass
from enum import Enum

from buckler.modality.picture.dicom.refusals import unreadable, unsupported
from buckler.modality.picture.jpeg_file import JpegFile

_START_OF_SCAN, _END = 0xDA, b"\xff\xd9"
_JPEG_LS_FRAME, _HP = 0xF7, 0xE8


class Colours(Enum):
    """What the samples of a stream are."""

    GREY = "grey"
    RGB = "RGB"
    YBR = "YBR"


def ended(stream: bytes) -> bytes:
    """Return the stream with an end marker: a stream that lacks nothing else is whole.

    Zeros in its place are padding, which must not be decoded as the last pixels.
    """
    bare = stream.rstrip(b"\0")
    return bare if bare.endswith(_END) else bare + _END


def colours(file: JpegFile, photometric: str) -> Colours:
    """Return what the samples are: as the stream states; only where it states nothing, as the DICOM header does.

    Raises:
        UnusableImageError: The stream contradicts itself, or neither states the colours.
    """
    if len(file.components) == 1:
        return Colours.GREY
    if file.jfif and file.adobe == 0:
        raise unreadable("one statement about the colours of the JPEG stream", "JFIF's YCbCr and Adobe's RGB at once")
    if file.jfif or file.adobe == 1:
        return Colours.YBR
    if file.adobe == 0:
        return Colours.RGB
    if file.adobe is not None:
        raise unreadable("Adobe's colour transform 0 or 1 in the JPEG stream", "another")
    if bytes(file.components) == b"RGB":
        return Colours.RGB
    if len(set(file.sampling)) > 1:
        return Colours.YBR  # nobody stores green and blue at a lower resolution than red
    if photometric in ("YBR_RCT", "YBR_ICT"):
        raise unreadable("a PhotometricInterpretation of JPEG", f"{photometric}, which is one of JPEG 2000")
    return Colours.RGB if photometric == "RGB" else Colours.YBR


@dataclass(frozen=True, slots=True)
class JpegLs:
    """The header of a JPEG-LS stream: sides in pixels, number of components, bits of a sample."""

    columns: int
    rows: int
    components: int
    precision: int


def jpeg_ls(stream: bytes) -> JpegLs | None:
    """Return the header of a JPEG-LS stream; None if it is another kind of JPEG.

    Raises:
        UnusableImageError: The stream has a colour transform of its own.
    """
    place, found = 2, None
    while place + 4 <= len(stream) and stream[place] == 0xFF:
        marker, end = stream[place + 1], place + 2 + max(2, int.from_bytes(stream[place + 2 : place + 4], "big"))
        data = stream[place + 4 : end]
        if marker == _JPEG_LS_FRAME and len(data) >= 6:
            rows, columns = (int.from_bytes(data[start : start + 2], "big") for start in (1, 3))
            found = JpegLs(columns, rows, data[5], data[0])
        elif marker == _HP and data.startswith(b"mrfx") and data[4:5] != b"\0":
            raise unsupported("JPEG-LS streams without colour transform", "one with HP's colour transform")
        elif marker == _START_OF_SCAN:
            break
        place = place + 1 if marker == 0xFF else end
    return found
