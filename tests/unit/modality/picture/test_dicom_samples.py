"""Files of other programs: pydicom's test files against pydicom's own decoder, and the cases in the shared folder."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

from buckler.modality.picture import dicom
from tests.unit.modality.picture.dicom_codings import decoded, refusal

SAMPLES = Path(pydicom.__file__).parent / "data/test_files"

COLOURED = (
    *("ExplVR_BigEnd", "SC_jpeg_no_color_transform", "SC_jpeg_no_color_transform_2", "SC_rgb_dcmtk_+eb+cr"),
    *(f"SC_rgb_dcmtk_+eb+cy+{kind}" for kind in ("n1", "n2", "np", "s2", "s4")),
    *("SC_rgb_gdcm_KY", "SC_rgb_jls_lossy_line", "SC_rgb_jls_lossy_sample", "SC_rgb_jpeg", "SC_rgb_jpeg_app14_dcmd"),
    *("SC_rgb_jpeg_dcmd", "SC_rgb_jpeg_dcmtk", "SC_rgb_jpeg_gdcm", "SC_rgb_jpeg_lossy_gdcm"),
    *("SC_rgb_rle", "SC_rgb_rle_16bit", "SC_rgb_rle_32bit", "SC_rgb_small_odd", "SC_rgb_small_odd_big_endian"),
    *("SC_rgb_small_odd_jpeg", "SC_ybr_full_422_uncompressed", "examples_jpeg2k", "examples_rgb_color"),
)
GREY = (
    *("693_J2KI", "CT_small", "J2K_pixelrep_mismatch", "JPEG2000", "JPEGLSNearLossless_08", "JPEGLSNearLossless_16"),
    *("MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit", "MR_small_padded"),
    *("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "examples_overlay", "image_dfl"),
)
REFUSED = {
    "ExplVR_BigEndNoMeta": "got a radiotherapy plan",
    "ExplVR_LitEndNoMeta": "got a radiotherapy plan",
    "GDCMJ2K_TextGBR": "a whole JPEG 2000 codestream",
    "JPEG2000-embedded-sequence-delimiter": "a whole JPEG 2000 codestream",
    "MR_truncated": "8,192 bytes in PixelData, got 8,130",
    "SC_rgb_rle_2frame": "got 2 frames",
    "SC_rgb_rle_16bit_2frame": "got 2 frames",
    "SC_rgb_rle_32bit_2frame": "got 2 frames",
    "UN_sequence": "the attribute PixelData",
    "badVR": "got a radiotherapy dose",
    "dicomdirtests/DICOMDIR-empty": "got a directory of files (DICOMDIR)",
    "empty_charset_LEI": "the attribute PixelData",
    "examples_ybr_color": "got 30 frames",
    "liver_1frame": "got a segmentation",
    "liver_expb_1frame": "got a segmentation",
    "meta_missing_tsyntax": "the attribute PixelData",
    "nested_priv_SQ": "the attribute PixelData",
    "no_meta": "the attribute PixelData",
    "no_meta_group_length": "the attribute PixelData",
    "priv_SQ": "the attribute PixelData",
    "reportsi": "got a structured report",
    "reportsi_with_empty_number_tags": "got a structured report",
    "rtdose": "got a radiotherapy dose",
    "rtdose_1frame": "got a radiotherapy dose",
    "rtdose_expb": "got a radiotherapy dose",
    "rtdose_expb_1frame": "got a radiotherapy dose",
    "rtdose_rle": "got a radiotherapy dose",
    "rtdose_rle_1frame": "got a radiotherapy dose",
    "rtplan": "got a radiotherapy plan",
    "rtplan_truncated": "got a radiotherapy plan",
    "rtstruct": "got a radiotherapy structure set",
    "test-SR": "got a structured report",
    "waveform_ecg": "got a waveform",
}
# Decoded by no plugin of pydicom that is installed; tested by known pixels, or here by the palette.
OTHERS = {"JPEG-lossy", "JPGExtended", "examples_palette"}


def test_every_file_of_pydicom_has_its_expectation():
    names = {path.relative_to(SAMPLES).as_posix().removesuffix(".dcm") for path in SAMPLES.rglob("*.dcm")}
    assert names == {*COLOURED, *GREY, *REFUSED, *OTHERS}


def reference(name: str) -> tuple[pydicom.Dataset, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(SAMPLES / f"{name}.dcm", force=True)
        return dataset, dataset.pixel_array


@pytest.mark.parametrize("name", COLOURED)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns about an identifier; the service ignores it
def test_colours_equal_those_of_pydicom(name):
    dataset, expected = reference(name)
    if expected.dtype != np.uint8:
        expected = expected >> (dataset.BitsStored - 8)
    # Two implementations of a colour conversion may round differently.
    assert np.abs(decoded((SAMPLES / f"{name}.dcm").read_bytes()).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", GREY)
def test_brightness_follows_pydicoms_display(name):
    dataset, stored = reference(name)
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(float)
    # pydicom spreads a window over the range of the stored bits after rescaling.
    bits = dataset.BitsStored
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if dataset.PixelRepresentation else [0, 2**bits - 1])
    low, high = ends * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    expected = np.rint(255 * (values - low) / (high - low))
    assert np.abs(decoded((SAMPLES / f"{name}.dcm").read_bytes())[..., 0] - expected).max() <= 1


def test_a_palette_equals_that_of_pydicom():
    dataset, stored = reference("examples_palette")
    expected = apply_color_lut(stored, dataset) >> 8
    np.testing.assert_array_equal(decoded((SAMPLES / "examples_palette.dcm").read_bytes()), expected)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_other_files_are_refused_for_the_right_reason(name):
    content = (SAMPLES / f"{name}.dcm").read_bytes()
    if content[128:132] == b"DICM":
        assert REFUSED[name] in refusal(content)


CASES = {
    **dict.fromkeys(["F02-rgb-jpeg-with-ids-rgb", "F05-jpeg-lossless-70", "F06-rle", "F07-j2k-lossless-rct"], 0),
    **dict.fromkeys(["F08h-big-endian", "F10-no-planar-configuration", "F10h-no-pixel-representation"], 0),
    **dict.fromkeys(["F01-jfif-labelled-rgb", "F07j-jpeg-extended-51-8bit", "F08-progressive-in-baseline"], 2),
    **dict.fromkeys(["F09-no-preamble", "F10j-no-sequence-delimiter"], 2),
    "F21-voi-lut-sequence": 1,
}


@pytest.mark.parametrize("name", CASES)
def test_cases_show_what_viewers_show(name, case_files):
    shown = np.asarray(Image.open(case_files / name / "shown.png").convert("RGB")).astype(int)
    found = dicom.decode((case_files / name / "input.dcm").read_bytes(), 100_000).image.convert("RGB")
    assert np.abs(np.asarray(found) - shown).max() <= CASES[name]


def test_cases_without_a_picture_are_refused_for_the_right_reason(case_files):
    assert "an encapsulated PDF" in refusal((case_files / "F11-encapsulated-pdf/input.dcm").read_bytes())
    assert "PhotometricInterpretation" in refusal((case_files / "F11h-ybr422-label-rgb-size/input.dcm").read_bytes())
