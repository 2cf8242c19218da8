"""Decoder of DICOM files, within the same limits as other pictures.

No error, warning or log line quotes an attribute's value: it may name a patient.
"""

import logging
import warnings
import zlib

from buckler.errors import UnusableImageError
from buckler.modality.picture.decoded import Decoded
from buckler.modality.picture.dicom import codecs, colours, envelope, fragments, header, objects, samples
from buckler.modality.picture.dicom.codecs import Frame
from buckler.modality.picture.dicom.envelope import Envelope
from buckler.modality.picture.dicom.header import Header
from buckler.modality.picture.dicom.refusals import unreadable, unsupported

# Discard the log of pydicom, which quotes values. Setting the level would not last: pydicom sets it when it is loaded.
logging.getLogger("pydicom").addHandler(logging.NullHandler())
logging.getLogger("pydicom").propagate = False
# Its warnings quote values, too. A permanent filter: `warnings.catch_warnings` would change those of other threads.
warnings.filterwarnings("ignore", module=r"(pydicom\.|buckler\.modality\.picture\.dicom(\.|$))")


def decode(content: bytes, most_pixels: int, frame: int | None = None) -> Decoded:
    """Return a frame of a DICOM file as 8-bit RGB or grey, with its ICC profile.

    Grey values become brightness by the file's own tables or first window; without them, the whole range of the stored
    bits does.

    Args:
        content: The file.
        most_pixels: Most pixels that are decoded.
        frame: Number of the frame, from 1; a file of several frames needs one.

    Raises:
        UnusableImageError: The file has several frames and none is chosen, an unsupported coding or colour model, too
            many pixels, no picture, or is damaged; ``code`` states the fault.
    """
    try:
        return _load(content, most_pixels, frame)
    except UnusableImageError:
        raise
    except Exception:
        # Neither chained nor quoted: a parser's message may contain a patient's name. pydicom raises many types.
        raise unreadable("whole and valid attributes", "damaged ones") from None


def _load(content: bytes, most_pixels: int, frame: int | None) -> Decoded:
    file = envelope.read(content)
    found = header.read(file.dataset, most_pixels)
    number = _chosen(found.frames, frame) - 1
    decoded = _decode(file, found, number)
    image = colours.to_image(decoded, file.dataset, found.photometric, number, big_endian=file.big_endian)
    return Decoded(image, *image.size, colours.profile(decoded, file.dataset, found.photometric))


def _chosen(frames: int, frame: int | None) -> int:
    if frame is None and frames > 1:
        raise unsupported(
            "one frame", f"{frames:,} frames", "choose one by its number, or save it as a picture of its own"
        )
    if frame is not None and not 1 <= frame <= frames:
        raise unsupported("the chosen frame", f"{frames:,} frames", f"choose one from 1 to {frames:,}")
    return frame or 1


def _decode(file: Envelope, found: Header, number: int) -> Frame:
    if file.syntax not in (*envelope.NATIVE, envelope.UNKNOWN_ENCAPSULATED, *codecs.COMPRESSED):
        raise unsupported(
            "pixels uncompressed, or as JPEG, JPEG-LS, JPEG 2000 or RLE", objects.syntax_name(file.syntax)
        )
    if file.in_fragments == (file.syntax in envelope.NATIVE):
        kind = "compressed" if file.syntax in envelope.NATIVE else "uncompressed"
        raise unreadable(
            f"PixelData as TransferSyntaxUID {objects.syntax_name(file.syntax)} states", f"{kind} PixelData"
        )
    if file.syntax in envelope.NATIVE:
        samples.check_length(found, file.length)
        data = file.pixel_bytes(most=samples.end_of_frame(found, number) + 1)  # one byte of padding
        return _native(data, file, found, number)
    stream = fragments.frame(file.pixel_bytes(), number, found.frames)
    if file.syntax == codecs.DEFLATED_FRAMES:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream, samples.end_of_frame(found, 0))
        return _native(memoryview(inflated), file, found, 0)
    return codecs.decode(stream, file.syntax, found)


def _native(data: memoryview, file: Envelope, found: Header, number: int) -> Frame:
    cells = samples.native(data, found, number, big_endian=file.big_endian, words=file.words)
    return Frame.of(found, cells, codecs.by_label(found, paired=True))
