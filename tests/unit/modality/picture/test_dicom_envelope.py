"""What surrounds the pixels of a DICOM file: read as pydicom's users expect, or refused by name."""

import io
import struct

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from buckler.modality.picture import dicom as decoder
from tests.unit.modality.picture import dicom_codings as codings
from tests.unit.modality.picture.dicom_codings import changed, compressed, decoded, refusal, stream_of
from tests.unit.modality.picture.dicom_files import dicom, jpeg_dicom

STORAGE = "1.2.840.10008.5.1.4.1.1."
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


@pytest.fixture(scope="module")
def colours():
    x, y = np.meshgrid(np.linspace(0, 255, 42), np.linspace(0, 255, 24))
    return np.stack([x, y, 255 - x], -1).astype(np.uint8)


def pictured(content: bytes) -> np.ndarray:
    """Return what the DICOM decoder makes of bytes that are not recognised as a DICOM file."""
    return np.asarray(decoder.decode(content, 10_000).image.convert("RGB"))


def end_of_meta(content: bytes) -> int:
    return 144 + int.from_bytes(content[140:144], "little")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", ExplicitVRBigEndian])
def test_files_without_preamble_or_file_meta_information(colours, syntax):
    content = dicom(colours, "RGB", syntax=syntax)
    np.testing.assert_array_equal(pictured(content[128:]), colours)
    np.testing.assert_array_equal(pictured(content[132:]), colours)
    np.testing.assert_array_equal(pictured(content[end_of_meta(content) :]), colours)
    np.testing.assert_array_equal(pictured(bytes(128) + content[end_of_meta(content) :]), colours)


def test_a_compressed_file_without_transfer_syntax_is_known_by_its_stream(colours):
    for syntax in (codings.JPEG_LOSSLESS, codings.JPEG_LS, codings.JPEG_2000_LOSSLESS):
        content = compressed(dicom(colours, "RGB"), syntax)
        np.testing.assert_array_equal(pictured(content[end_of_meta(content) :]), colours)


def test_a_wrong_length_of_the_file_meta_information(colours):
    content = dicom(colours, "RGB")
    for length in (0, 4, 9999):
        np.testing.assert_array_equal(decoded(content[:140] + struct.pack("<I", length) + content[144:]), colours)
    without = content[:132] + content[144:]
    np.testing.assert_array_equal(decoded(without), colours)


@pytest.mark.parametrize("keyword", ["PlanarConfiguration", "PixelRepresentation", "BitsStored", "HighBit"])
def test_attributes_with_one_possible_meaning_may_be_missing_or_empty(colours, keyword):
    content = dicom(colours, "RGB")
    np.testing.assert_array_equal(decoded(changed(content, **{keyword: None})), colours)
    dataset = dcmread(io.BytesIO(content))
    dataset[keyword].clear()
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    np.testing.assert_array_equal(decoded(buffer.getvalue()), colours)


def test_samples_per_pixel_follow_from_the_photometric_interpretation(colours):
    np.testing.assert_array_equal(decoded(changed(dicom(colours, "RGB"), SamplesPerPixel=None)), colours)


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "BitsAllocated", "PhotometricInterpretation", "PixelData"])
def test_other_missing_attributes_are_named(colours, keyword):
    assert f"the attribute {keyword}, got none" in refusal(changed(dicom(colours, "RGB"), **{keyword: None}))


@pytest.mark.parametrize(
    "keyword", ["Rows", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"]
)
def test_attributes_of_another_type_are_named(colours, keyword):
    content = dicom(colours, "RGB")
    dataset = dcmread(io.BytesIO(content))
    place = content.find(struct.pack("<HH", dataset[keyword].tag.group, dataset[keyword].tag.element) + b"US", 132)
    text = b"IS\2\0X^"
    assert keyword in refusal(content[: place + 4] + text + content[place + 4 + len(text) :])


def test_pixel_data_of_another_length_state_both_lengths(colours):
    content = dicom(colours, "RGB")
    assert "3,024 bytes in PixelData, got 3,000; the file is cut off" in refusal(content[:-24])
    assert "image_unreadable" in refusal(content[: len(content) // 2])
    short = changed(content, PixelData=colours.tobytes()[:-100])
    assert "3,024 bytes in PixelData, got 2,924" in refusal(short)
    twice = changed(content, PixelData=2 * colours.tobytes())
    assert "NumberOfFrames state, got 6,048" in refusal(twice)
    np.testing.assert_array_equal(decoded(changed(content, PixelData=colours.tobytes() + bytes(100))), colours)


def test_a_label_of_subsampling_on_full_colours_is_refused(colours):
    content = changed(dicom(colours, "RGB"), PhotometricInterpretation="YBR_FULL_422")
    assert "PixelData that fits PhotometricInterpretation YBR_FULL_422, got 3,024 bytes" in refusal(content)


def test_subsampled_colours_are_read(colours):
    # Two brightnesses, then one pair of colour differences; grey has differences of 128.
    pairs = np.array([10, 200, 128, 128, 90, 91, 128, 128], np.uint8).tobytes()
    content = dicom(pairs, "YBR_FULL_422", Rows=1, Columns=4)
    np.testing.assert_array_equal(decoded(content)[0, :, 0], [10, 200, 90, 91])


def fragments(*parts: bytes, table: bytes = b"") -> bytes:
    return b"".join(ITEM + struct.pack("<I", len(each)) + each for each in (table, *parts))


def with_fragments(value: bytes) -> bytes:
    """Return a file with this value of compressed pixel data."""
    content = dicom(encapsulate([b"stream"]), "YBR_FULL_422", syntax=codings.JPEG_BASELINE, Rows=24, Columns=42)
    return content[: content.rfind(ITEM, 0, content.rfind(ITEM))] + value


def test_offset_tables_delimiters_and_fragments(colours):
    stream = codings.jpeg(colours)
    even = stream + b"\0" * (len(stream) % 2)
    whole = decoded(with_fragments(fragments(even) + DELIMITER))
    assert np.abs(whole.astype(int) - colours).max() < 30
    values = {
        "no delimiter": fragments(even),
        "wrong table": fragments(even, table=struct.pack("<I", 77)) + DELIMITER,
        "long table": fragments(even, table=struct.pack("<III", 0, 10, 20)) + DELIMITER,
        "no table": fragments(even)[8:] + DELIMITER,
        "three fragments": fragments(even[:100], even[100:400], even[400:]) + DELIMITER,
        "three fragments, no delimiter": fragments(even[:100], even[100:400], even[400:]),
        "odd length": fragments(stream[:101], stream[101:]) + DELIMITER,
        "odd length and padding": fragments(stream[:101]) + b"\0" + fragments(stream[101:])[8:] + DELIMITER,
        "no end marker": fragments(stream[:-2]) + DELIMITER,
        "end marker cut off with the file": fragments(stream)[:-2],
        "other data behind": fragments(even) + b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\0\0\0\0",
    }
    for name, value in values.items():
        np.testing.assert_array_equal(decoded(with_fragments(value)), whole, err_msg=name)


def test_damaged_fragments_are_refused(colours):
    stream = codings.jpeg(colours)
    assert "in a fragment of PixelData, got 1" in refusal(with_fragments(fragments(stream)[:-900]))
    assert "compressed fragments in PixelData, got none" in refusal(with_fragments(DELIMITER))
    endless = ITEM + b"\0\0\0\0" + ITEM + b"\xff\xff\xff\xff" + stream
    assert "undefined length" in refusal(with_fragments(endless))
    second = with_fragments(fragments(stream, stream) + DELIMITER)
    assert "NumberOfFrames as in PixelData (2 frames), got 1" in refusal(second)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, codings.JPEG_LOSSLESS_SV1, codings.RLE, ExplicitVRBigEndian]
)
def test_a_file_of_several_frames_needs_the_choice_of_one(colours, syntax):
    frames = np.stack([colours, 255 - colours, colours // 2])
    pixels = frames.tobytes()
    if syntax in (codings.JPEG_LOSSLESS_SV1, codings.RLE):
        pixels = encapsulate([stream_of(compressed(dicom(picture, "RGB"), syntax)) for picture in frames])
    content = dicom(pixels, "RGB", syntax=syntax, Rows=24, Columns=42, NumberOfFrames=3)
    assert "one frame, got 3 frames; choose one by its number, or save it as a picture of its own" in refusal(content)
    for number, picture in enumerate(frames, 1):
        np.testing.assert_array_equal(np.asarray(decoder.decode(content, 10_000, number).image), picture)
    for number in (0, 4, -1):
        with pytest.raises(decoder.UnusableImageError, match="choose one from 1 to 3"):
            decoder.decode(content, 10_000, number)


def test_frames_of_several_fragments_are_told_apart(colours):
    streams = [codings.jpeg(picture) for picture in (colours, 255 - colours)]
    parts = [stream[start : start + 301] for stream in streams for start in range(0, len(stream), 301)]
    content = with_fragments(fragments(*parts) + DELIMITER)
    content = changed(content, NumberOfFrames=2)
    for number, picture in enumerate((colours, 255 - colours), 1):
        shown = np.asarray(decoder.decode(content, 10_000, number).image).astype(int)
        assert np.abs(shown - picture).max() < 30


def test_bits_of_several_frames_need_no_bytes_of_their_own():
    # Frames of 5 bits, the lowest bit first.
    content = dicom(
        bytes([0b11010101, 0b01]),
        "MONOCHROME2",
        **{"Rows": 1, "Columns": 5, "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "NumberOfFrames": 2},
    )
    for number, expected in ((1, [255, 0, 255, 0, 255]), (2, [0, 255, 255, 255, 0])):
        assert np.asarray(decoder.decode(content, 10_000, number).image)[0].tolist() == expected


def test_a_deflated_file_that_is_cut_off_or_too_large_is_refused(colours):
    content = dicom(colours, "RGB", syntax=DeflatedExplicitVRLittleEndian)
    assert refusal(content[:-20]).startswith("image_unreadable")
    noise = np.random.default_rng(3).integers(0, 256, (2000, 2000, 3), np.uint8)  # more than the first read
    np.testing.assert_array_equal(decoded(dicom(noise, "RGB", syntax=DeflatedExplicitVRLittleEndian)), noise)
    huge = dicom(bytes(3), "RGB", syntax=DeflatedExplicitVRLittleEndian, Rows=60000, Columns=60000)
    assert refusal(huge).startswith("image_too_large")


@pytest.mark.parametrize(
    ("sop_class", "name"),
    [
        ("104.1", "an encapsulated PDF"),
        ("104.2", "an encapsulated CDA document"),
        ("88.33", "a structured report"),
        ("88.59", "a key object selection"),
        ("9.1.1", "a waveform"),
        ("11.1", "a presentation state"),
        ("66.4", "a segmentation"),
        ("481.2", "a radiotherapy dose"),
        ("481.3", "a radiotherapy structure set"),
        ("481.5", "a radiotherapy plan"),
        ("66", "raw data"),
        ("30", "a parametric map"),
    ],
)
def test_other_objects_are_refused_as_what_they_are(colours, sop_class, name):
    with_pixels = changed(dicom(colours, "RGB"), SOPClassUID=STORAGE + sop_class)
    for content in (with_pixels, changed(with_pixels, PixelData=None)):
        message = refusal(content)
        assert message == f"image_unsupported: expected a DICOM file with a picture, got {name}; send a picture"


def test_objects_without_pixels_are_named_by_class_or_content(colours):
    plain = changed(dicom(colours, "RGB"), PixelData=None)
    named = changed(plain, SOPClassUID="1.2.840.10008.5.1.4.38.1")
    assert "got the object Hanging Protocol Storage; send a picture" in refusal(named)
    document = changed(plain, EncapsulatedDocument=b"%PDF-1.4")
    assert "got an encapsulated document" in refusal(document)
    floats = changed(plain, FloatPixelData=bytes(4 * 24 * 42))
    assert "floating-point numbers (FloatPixelData)" in refusal(floats)


@pytest.mark.filterwarnings("ignore:Expected explicit VR:UserWarning")  # the service ignores pydicom's warnings
def test_implicit_types_that_are_declared_explicit_are_read(colours):
    implicit = dicom(colours, "RGB", syntax=ImplicitVRLittleEndian)
    np.testing.assert_array_equal(decoded(codings.with_syntax(implicit, "1.2.840.10008.1.2.1")), colours)


def test_extended_offset_tables_do_no_harm(colours):
    frames, offsets, lengths = encapsulate_extended([codings.jpeg(colours), codings.jpeg(255 - colours)])
    content = dicom(
        frames,
        "YBR_FULL_422",
        syntax=codings.JPEG_BASELINE,
        **{"Rows": 24, "Columns": 42, "NumberOfFrames": 2},
        **{"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths},
    )
    shown = np.asarray(decoder.decode(content, 10_000, 2).image).astype(int)
    assert np.abs(shown - (255 - colours)).max() < 30


def test_a_picture_of_a_thumbnail_is_not_the_thumbnail(colours):
    from PIL import Image
    from pydicom.dataset import Dataset

    icon = dcmread(io.BytesIO(dicom(colours[:4, :4] // 3, "RGB")))
    nested = Dataset()
    for keyword in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation", "PixelData"):
        nested[keyword] = icon[keyword]
    np.testing.assert_array_equal(decoded(changed(dicom(colours, "RGB"), IconImageSequence=[nested])), colours)
    with_icon = changed(jpeg_dicom(Image.fromarray(colours)), IconImageSequence=[nested])
    assert decoded(with_icon).shape == colours.shape
