"""Every transfer syntax: the right pixels from whole files, a refusal of damaged ones."""

import base64
import io
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from buckler.errors import UnusableImageError
from tests.unit.modality.picture import dicom_codings as codings
from tests.unit.modality.picture.dicom_codings import changed, compressed, decoded, refusal, stream_of, with_syntax
from tests.unit.modality.picture.dicom_files import dicom

SAMPLES = Path(pydicom.__file__).parent / "data/test_files"
LOSSLESS = (
    codings.JPEG_LOSSLESS,
    codings.JPEG_LOSSLESS_SV1,
    codings.JPEG_LS,
    codings.JPEG_LS_NEAR,
    codings.JPEG_2000_LOSSLESS,
    codings.JPEG_2000,
    codings.RLE,
)
TWELVE_BITS = {"BitsStored": 12, "HighBit": 11}


def _colours():
    x, y = np.meshgrid(np.linspace(0, 255, 41), np.linspace(0, 255, 24))
    return np.random.default_rng(7).integers(0, 9, (24, 41, 3), np.uint8) // 2 + np.stack(
        [x * 0.9, y * 0.9, 240 - x * 0.9], -1
    ).astype(np.uint8)


COLOURS = _colours()
GREY = COLOURS[..., 0].copy()
WORDS = COLOURS[..., 0].astype(np.uint16) * 16 + COLOURS[..., 1] // 16  # 12 bits


def as_grey(brightness: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(brightness).astype(np.uint8)[..., None], 3, -1)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_codings_return_every_pixel(syntax):
    np.testing.assert_array_equal(decoded(compressed(dicom(COLOURS, "RGB"), syntax)), COLOURS)
    np.testing.assert_array_equal(decoded(compressed(dicom(GREY, "MONOCHROME2"), syntax)), as_grey(GREY))
    twelve = compressed(dicom(WORDS, "MONOCHROME2", **TWELVE_BITS), syntax)
    np.testing.assert_array_equal(decoded(twelve), as_grey(WORDS * (255 / 4095)))
    sixteen = compressed(dicom(WORDS * 16, "MONOCHROME2"), syntax)
    np.testing.assert_array_equal(decoded(sixteen), as_grey(WORDS * (16 * 255 / 65535)))
    signed = compressed(dicom(WORDS.astype(np.int16) - 2048, "MONOCHROME2", **TWELVE_BITS), syntax)
    np.testing.assert_array_equal(decoded(signed), as_grey(WORDS * (255 / 4095)))


def test_colours_of_16_bits_keep_their_upper_8():
    for syntax in (codings.JPEG_LOSSLESS_SV1, codings.JPEG_LS, codings.JPEG_2000_LOSSLESS, codings.RLE):
        content = compressed(dicom(COLOURS.astype(np.uint16) * 256 + 17, "RGB"), syntax)
        np.testing.assert_array_equal(decoded(content), COLOURS)


def test_extended_jpeg_of_8_and_12_bits():
    eight = dicom(
        encapsulate([codings.jpeg(COLOURS)]), "YBR_FULL_422", syntax=codings.JPEG_EXTENDED, Rows=24, Columns=41
    )
    np.testing.assert_array_equal(decoded(eight), np.asarray(Image.open(io.BytesIO(codings.jpeg(COLOURS)))))
    # Twelve bits: the values that pydicom's own tests expect of this file of another encoder.
    twelve = decoded((SAMPLES / "JPGExtended.dcm").read_bytes())
    assert twelve.shape == (1024, 256, 3)
    assert [*twelve[[420, 230], [140, 120], 0]] == [round(244 * 255 / 4095), round(95 * 255 / 4095)]


@pytest.mark.parametrize("syntax", [codings.JPEG_BASELINE, codings.JPEG_EXTENDED, codings.JPEG_LOSSLESS_SV1])
def test_a_progressive_jpeg_is_decoded_inside_other_jpeg_syntaxes(syntax):
    stream = codings.jpeg(COLOURS, progressive=True)
    content = dicom(encapsulate([stream]), "YBR_FULL_422", syntax=syntax, Rows=24, Columns=41)
    np.testing.assert_array_equal(decoded(content), np.asarray(Image.open(io.BytesIO(stream))))


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_codings(syntax):
    np.testing.assert_array_equal(decoded(dicom(COLOURS, "RGB", syntax=syntax)), COLOURS)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    words = WORDS.astype(f"{order}u2").tobytes()
    tags = {"Rows": 24, "Columns": 41, "BitsAllocated": 16, **TWELVE_BITS}
    np.testing.assert_array_equal(
        decoded(dicom(words, "MONOCHROME2", syntax=syntax, **tags)), as_grey(WORDS * (255 / 4095))
    )


def test_bytes_stored_as_big_endian_words():
    even = COLOURS[:, :40]
    swapped = np.frombuffer(even.tobytes(), "<u2").astype(">u2").tobytes()
    content = dicom(swapped, "RGB", syntax=ExplicitVRBigEndian, Rows=24, Columns=40)
    place = content.rfind(b"\x7f\xe0\0\x10OB")
    content = content[: place + 4] + b"OW" + content[place + 6 :]
    np.testing.assert_array_equal(decoded(content), even)


@pytest.mark.parametrize("syntax", [*LOSSLESS, codings.JPEG_EXTENDED])
def test_a_truncated_stream_is_refused_or_whole(syntax):
    pictures = [dicom(WORDS, "MONOCHROME2", **TWELVE_BITS)]
    if syntax != codings.JPEG_EXTENDED:
        pictures.append(dicom(COLOURS, "RGB"))
    for content in (compressed(picture, syntax) for picture in pictures):
        stream, whole = stream_of(content), decoded(content)
        cuts = [*np.linspace(20, len(stream) - 20, 10, dtype=int), *(len(stream) - cut for cut in (1, 2, 6, 12))]
        refusals = []
        for cut in cuts:
            for end in (b"", b"\xff\xd9"):  # the tail is lost; the tail is lost and the end marker put back
                try:
                    shown = decoded(changed(content, stream=stream[:cut] + end))
                except UnusableImageError as error:
                    refusals.append(str(error))
                    continue
                # Run lengths have no end marker: a last byte that became another is another picture.
                assert syntax == codings.RLE or np.array_equal(shown, whole)
        assert len(refusals) >= 20
        assert all("PixelData" in each or "JPEG" in each for each in refusals)


def test_half_a_baseline_jpeg_is_refused_and_a_missing_end_marker_is_not():
    stream = codings.jpeg(COLOURS)
    content = dicom(encapsulate([stream]), "YBR_FULL_422", syntax=codings.JPEG_BASELINE, Rows=24, Columns=41)
    np.testing.assert_array_equal(decoded(changed(content, stream=stream[:-2])), decoded(content))
    for broken in (stream[: len(stream) // 2], stream[: len(stream) // 2] + b"\xff\xd9"):
        assert refusal(changed(content, stream=broken)).startswith("image_unreadable")
    assert refusal(changed(content, stream=stream.replace(b"\n", b"\r\n"))).startswith("image_unreadable")


def test_missing_tiles_of_jpeg_2000_are_refused():
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, "JPEG2000", no_jp2=True, mct=1, tile_size=(16, 16))
    stream = buffer.getvalue()
    content = dicom(encapsulate([stream]), "YBR_RCT", syntax=codings.JPEG_2000_LOSSLESS, Rows=24, Columns=41)
    np.testing.assert_array_equal(decoded(content), COLOURS)
    last_tile = stream.rfind(b"\xff\x90\0\x0a")
    for end in (b"", b"\xff\xd9"):
        assert "cut off or damaged" in refusal(changed(content, stream=stream[:last_tile] + end))


def test_a_codestream_in_a_file_of_its_own_is_decoded():
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, "JPEG2000", mct=1)
    assert buffer.getvalue()[4:6] == b"jP"
    content = dicom(encapsulate([buffer.getvalue()]), "YBR_RCT", syntax=codings.JPEG_2000_LOSSLESS, Rows=24, Columns=41)
    np.testing.assert_array_equal(decoded(content), COLOURS)


# 12 x 8 pixels, written by OpenJPH 0.26: red 20 x, green 30 y, blue 200 - 5 x.
HTJ2K = base64.b64decode(
    "/0//UQAvQAAAAAAMAAAACAAAAAAAAAAAAAAADAAAAAgAAAAAAAAAAAADBwEBBwEBBwEB/1AACAACAAAAA/9SAAwAAgABAQUEBEAB/1wAEyBQWF"
    "hYWFhYWFhYWFhYUFBQ/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAPAAAf+TwBKA9QAHdADAEoDeAQd0AMASgP4Ax3QAAAAAwAlA"
    "/gAHdADACUDVAId0AMAJQFQBh3QAwAjgBMAAYwCIiABCNADACSAE4P4XcwARI/4AYjQAwAlgBOD5AEd0ABEj/gBiNADACWAFQO6AS3QAQkH4AO"
    "R3VQDACaAFSLX+gMt0AIWFwgAAAHdWAMAJoAVIWOyAi3QAhYXCAAAAd1YAwBNAFUCq2CnidQCcmZngDPfJ7LcAwBPAFYBJ8tinQnUA+9577+AA"
    "9gAB7LgAwBUQBWDGGPPacAJ1APvee+/gAPYAAey4AP/Z"
)


def test_high_throughput_jpeg_2000():
    x, y = np.meshgrid(np.arange(12), np.arange(8))
    content = dicom(encapsulate([HTJ2K]), "YBR_RCT", syntax="1.2.840.10008.1.2.4.201", Rows=8, Columns=12)
    np.testing.assert_array_equal(decoded(content), np.stack([20 * x, 30 * y, 200 - 5 * x], -1))
    assert "cut off or damaged" in refusal(changed(content, stream=HTJ2K[:-20] + b"\xff\xd9"))


@pytest.mark.parametrize("syntax", [codings.JPEG_LOSSLESS, codings.JPEG_LS, codings.JPEG_2000, codings.RLE])
def test_sizes_that_differ_from_the_header_are_refused_before_decoding(syntax):
    content = compressed(dicom(GREY, "MONOCHROME2"), syntax)
    for tags in ({"Rows": 48}, {"Columns": 20}):
        assert refusal(changed(content, **tags)).startswith("image_unreadable")


@pytest.mark.parametrize("place", [5, 7])
def test_a_stream_that_states_more_pixels_than_the_header_is_refused_at_once(place):
    stream = codings.jpeg(COLOURS)
    frame = stream.find(b"\xff\xc0")
    huge = stream[: frame + place] + b"\xff\xff" + stream[frame + place + 2 :]
    content = dicom(encapsulate([huge]), "YBR_FULL_422", syntax=codings.JPEG_BASELINE, Rows=24, Columns=41)
    assert "Rows, Columns" in refusal(content)


def test_fewer_bits_in_the_stream_than_in_the_header_are_refused():
    content = dicom(
        encapsulate([codings.jpeg(GREY)]),
        "MONOCHROME2",
        syntax=codings.JPEG_BASELINE,
        **{"Rows": 24, "Columns": 41, "BitsAllocated": 16, **TWELVE_BITS},
    )
    assert "BitsStored" in refusal(content)


@pytest.mark.parametrize(
    ("stated", "inside"),
    [
        (codings.JPEG_2000, codings.JPEG_LOSSLESS),
        (codings.JPEG_BASELINE, codings.JPEG_LS),
        (codings.JPEG_LS, codings.JPEG_2000),
        (codings.RLE, codings.JPEG_2000),
    ],
)
def test_a_stream_of_another_family_than_the_transfer_syntax_is_refused(stated, inside):
    content = changed(compressed(dicom(GREY, "MONOCHROME2"), inside), syntax=stated)
    assert refusal(content).startswith("image_unreadable")


def test_compressed_pixels_need_a_compressed_syntax_and_the_reverse():
    in_fragments, plain = compressed(dicom(GREY, "MONOCHROME2"), codings.RLE), dicom(GREY, "MONOCHROME2")
    assert "TransferSyntaxUID" in refusal(with_syntax(in_fragments, ExplicitVRLittleEndian))
    assert "TransferSyntaxUID" in refusal(with_syntax(plain, codings.RLE))


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level (1.2.840.10008.1.2.4.100)"),
        ("1.2.840.10008.1.2.4.94", "JPIP Referenced (1.2.840.10008.1.2.4.94)"),
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Multi-component"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless (1.2.840.10008.1.2.4.110)"),
        ("1.2.840.113619.5.2", "a private or unknown transfer syntax"),
    ],
)
def test_a_syntax_that_is_not_decoded_is_named(uid, name):
    content = with_syntax(compressed(dicom(GREY, "MONOCHROME2"), codings.RLE), uid)
    assert refusal(content).startswith("image_unsupported: ")
    assert name in refusal(content)


def rle(*segments: bytes, count: int | None = None) -> bytes:
    offsets, place = [], 64
    for each in segments:
        offsets.append(place)
        place += len(each)
    head = struct.pack("<16I", len(segments) if count is None else count, *offsets, *[0] * (15 - len(segments)))
    return head + b"".join(segments)


@pytest.mark.parametrize(
    ("stream", "got"),
    [
        (rle(b"\xf9\1", b"\xf9\2"), "3 run-length encoded segments in PixelData, got 2"),
        (rle(b"\xf9\1", b"\xf9\2", b"\xfa\3"), "8 bytes in segment 3 of the run-length encoded PixelData, got 7"),
        (rle(b"\xf9\1", b"\xf9\2", b"\7abcd"), "8 bytes in segment 3 of the run-length encoded PixelData, got 5"),
        (rle(b"\xf9\1")[:40], "a header of 64 bytes"),
        (rle(b"\xf9\1", b"\xf9\2", b"\xf9\3", count=99), "got 99"),
    ],
)
def test_damaged_run_lengths_state_what_is_missing(stream, got):
    content = dicom(encapsulate([stream]), "RGB", syntax=codings.RLE, Rows=2, Columns=4)
    assert got in refusal(content)


def test_run_lengths_of_bytes_on_paper():
    stream = rle(b"\xf9\1", b"\xfd\2\3abcd", b"\x80\7\0\1\2\3\4\5\6\7")  # 80: nothing
    content = dicom(encapsulate([stream]), "RGB", syntax=codings.RLE, Rows=2, Columns=4)
    expected = np.stack([[1] * 8, [2, 2, 2, 2, *b"abcd"], range(8)], -1).reshape(2, 4, 3)
    np.testing.assert_array_equal(decoded(content), expected)
