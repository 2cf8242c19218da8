"""Colours of compressed DICOM files: what the stream states about itself outweighs the header."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space

from buckler.modality.picture import colour_space
from tests.picture_bytes import segment
from tests.unit.modality.picture import dicom_codings as codings
from tests.unit.modality.picture.dicom_codings import changed, compressed, decoded, refusal, stream_of
from tests.unit.modality.picture.dicom_files import dicom

ADOBE = b"Adobe\0\x64\0\0\0\0"
LABELS = ("RGB", "YBR_FULL", "YBR_FULL_422")


@pytest.fixture(scope="module")
def flat():
    """Reddish skin; a wrong conversion moves its channels by tens."""
    return np.full((16, 24, 3), (200, 120, 90), np.uint8)


def wrapped(stream: bytes, photometric: str, **tags) -> bytes:
    return dicom(
        encapsulate([stream]), photometric, syntax=codings.JPEG_BASELINE, **{"Rows": 16, "Columns": 24, **tags}
    )


def without_markers(stream: bytes) -> bytes:
    """Return a JPEG without JFIF's segment, which Pillow writes first."""
    length = int.from_bytes(stream[4:6], "big")
    assert stream[6:10] == b"JFIF"
    return stream[:2] + stream[4 + length :]


def with_identifiers(stream: bytes, identifiers: bytes) -> bytes:
    """Return a JPEG whose components have other identifiers, in frame and scan."""
    content = bytearray(stream)
    frame, scan = stream.find(b"\xff\xc0"), stream.find(b"\xff\xda")
    for index, identifier in enumerate(identifiers):
        content[frame + 10 + 3 * index] = identifier
        content[scan + 5 + 2 * index] = identifier
    return bytes(content)


def stored_as_rgb(pixels: np.ndarray) -> bytes:
    """Return a JPEG whose components are red, green and blue, without any marker that says so."""
    buffer = io.BytesIO()
    height, width = pixels.shape[:2]
    # Declared as YCbCr, so that the encoder converts nothing.
    Image.frombytes("YCbCr", (width, height), pixels.tobytes()).save(buffer, "JPEG", quality=100, subsampling=0)
    return without_markers(buffer.getvalue())


def assert_shows(content: bytes, pixels: np.ndarray) -> None:
    assert np.abs(decoded(content).astype(int) - pixels).max() <= 3


@pytest.mark.parametrize("label", LABELS)
def test_a_jfif_stream_is_ycbcr_whatever_the_header_states(flat, label):
    assert_shows(wrapped(codings.jpeg(flat), label), flat)
    assert_shows(wrapped(codings.jpeg(flat, progressive=True), label), flat)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("transform", [0, 1])
def test_the_transform_in_adobes_marker_outweighs_the_header(flat, label, transform):
    stream = without_markers(codings.jpeg(flat)) if transform else stored_as_rgb(flat)
    marked = stream[:2] + segment(0xEE, ADOBE + bytes([transform])) + stream[2:]
    assert_shows(wrapped(marked, label), flat)


@pytest.mark.parametrize("label", LABELS)
def test_components_named_r_g_and_b_are_rgb_whatever_the_header_states(flat, label):
    assert_shows(wrapped(with_identifiers(stored_as_rgb(flat), b"RGB"), label), flat)


@pytest.mark.parametrize("identifiers", [b"\1\2\3", b"\0\1\2"])
def test_the_header_decides_where_the_stream_states_nothing(flat, identifiers):
    ybr = with_identifiers(without_markers(codings.jpeg(flat)), identifiers)
    rgb = with_identifiers(stored_as_rgb(flat), identifiers)
    assert_shows(wrapped(rgb, "RGB"), flat)
    assert_shows(wrapped(ybr, "YBR_FULL"), flat)
    assert_shows(wrapped(ybr, "YBR_FULL_422"), flat)
    assert "PhotometricInterpretation" in refusal(wrapped(ybr, "YBR_RCT"))


def test_subsampled_components_are_ycbcr(flat):
    stream = without_markers(codings.jpeg(flat, subsampling=2))
    assert_shows(wrapped(stream, "RGB"), flat)


def test_a_marker_of_adobe_that_is_cut_short_states_nothing(flat):
    stream = stored_as_rgb(flat)
    assert_shows(wrapped(stream[:2] + segment(0xEE, ADOBE[:-2]) + stream[2:], "RGB"), flat)


def test_statements_that_contradict_each_other_are_refused(flat):
    jfif = codings.jpeg(flat)
    both = jfif[:2] + segment(0xEE, ADOBE + b"\0") + jfif[2:]
    assert "JFIF's YCbCr and Adobe's RGB at once" in refusal(wrapped(both, "RGB"))
    unknown = without_markers(jfif)
    assert "Adobe" in refusal(wrapped(unknown[:2] + segment(0xEE, ADOBE + b"\2") + unknown[2:], "RGB"))


def test_lossless_streams_follow_the_same_rules(flat):
    content = compressed(dicom(flat, "RGB"), codings.JPEG_LOSSLESS_SV1)  # with Adobe's marker, and R, G, B
    for label in LABELS:
        np.testing.assert_array_equal(decoded(changed(content, PhotometricInterpretation=label)), flat)
    ybr = convert_color_space(flat, "RGB", "YBR_FULL")
    stream = stream_of(compressed(dicom(ybr, "RGB"), codings.JPEG_LOSSLESS_SV1))
    end = stream.find(b"\xff\xc3")
    bare = bytearray(b"\xff\xd8" + stream[end:])
    scan = bare.find(b"\xff\xda")
    for index in range(3):
        bare[2 + 10 + 3 * index] = bare[scan + 5 + 2 * index] = 1 + index
    assert_shows(changed(content, stream=bytes(bare), PhotometricInterpretation="YBR_FULL"), flat)


def test_the_codestream_of_jpeg_2000_states_its_transform(flat):
    content = compressed(dicom(flat, "RGB"), codings.JPEG_2000_LOSSLESS)
    stream = stream_of(content)
    transformed = stream.find(b"\xff\x52") + 8
    assert stream[transformed] == 0
    for label in ("RGB", "YBR_RCT", "YBR_ICT"):  # without transform, there is nothing to undo
        np.testing.assert_array_equal(decoded(changed(content, PhotometricInterpretation=label)), flat)
    ybr = convert_color_space(flat, "RGB", "YBR_FULL")
    assert_shows(compressed(dicom(ybr, "YBR_FULL"), codings.JPEG_2000_LOSSLESS), flat)

    buffer = io.BytesIO()
    Image.fromarray(flat).save(buffer, "JPEG2000", no_jp2=True, mct=1)
    for label in ("YBR_RCT", "RGB"):
        shown = changed(content, stream=buffer.getvalue(), PhotometricInterpretation=label)
        np.testing.assert_array_equal(decoded(shown), flat)
    contradiction = changed(content, stream=buffer.getvalue(), PhotometricInterpretation="YBR_FULL")
    assert "PhotometricInterpretation YBR at once" in refusal(contradiction)


def test_jpeg_ls_and_run_lengths_follow_the_header(flat):
    ybr = convert_color_space(flat, "RGB", "YBR_FULL")
    for syntax in (codings.JPEG_LS, codings.RLE):
        np.testing.assert_array_equal(decoded(compressed(dicom(flat, "RGB"), syntax)), flat)
        assert_shows(changed(compressed(dicom(ybr, "RGB"), syntax), PhotometricInterpretation="YBR_FULL"), flat)
    content = changed(compressed(dicom(flat, "RGB"), codings.RLE), PhotometricInterpretation="YBR_FULL_422")
    assert "image_unsupported: expected a DICOM file with the PhotometricInterpretation" in refusal(content)


def test_a_colour_transform_of_jpeg_ls_is_refused(flat):
    content = compressed(dicom(flat, "RGB"), codings.JPEG_LS)
    stream = stream_of(content)
    marked = stream[:2] + segment(0xE8, b"mrfx\1") + stream[2:]
    assert "HP's colour transform" in refusal(changed(content, stream=marked))


def test_grey_streams_need_a_grey_header_and_colours_a_coloured_one(flat):
    grey = codings.jpeg(flat[..., 0])
    np.testing.assert_array_equal(np.unique(decoded(wrapped(grey, "MONOCHROME2"))), [200])
    assert "SamplesPerPixel" in refusal(wrapped(grey, "RGB"))
    assert "SamplesPerPixel" in refusal(wrapped(codings.jpeg(flat), "MONOCHROME2"))


def test_the_profile_of_the_file_or_else_of_its_stream_is_applied(flat):
    adobe_rgb = colour_space.profile_of((colour_space.D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), (563 / 256,))
    png = io.BytesIO()
    Image.fromarray(flat).save(png, "PNG", icc_profile=adobe_rgb)
    shown = decoded(png.getvalue())
    assert np.abs(shown.astype(int) - flat).max() > 10

    path = Dataset()
    path.ICCProfile = adobe_rgb
    np.testing.assert_array_equal(decoded(dicom(flat, "RGB", ICCProfile=adobe_rgb)), shown)
    np.testing.assert_array_equal(decoded(dicom(flat, "RGB", OpticalPathSequence=[path])), shown)
    assert_shows(wrapped(codings.jpeg(flat, icc_profile=adobe_rgb), "YBR_FULL_422"), shown)
    np.testing.assert_array_equal(decoded(dicom(flat, "RGB", ICCProfile=b"damaged!")), flat)
    grey = dicom(flat[..., 0].copy(), "MONOCHROME2", ICCProfile=adobe_rgb)
    np.testing.assert_array_equal(np.unique(decoded(grey)), [200])
