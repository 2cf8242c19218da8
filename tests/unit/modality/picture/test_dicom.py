import io
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from buckler.errors import UnusableImageError
from buckler.modality.picture import dicom, images, uploads
from buckler.modality.picture.decode_budget import MAX_PIXELS
from tests.picture_bytes import saved
from tests.unit.modality.picture.dicom_files import PATIENT, jpeg_dicom
from tests.unit.modality.picture.dicom_files import dicom as write

ROOT = Path(__file__).parents[4]
SAMPLES = Path(pydicom.__file__).parent / "data/test_files"


@pytest.fixture
def colours():
    """A gradient of odd width, so that a row has an odd number of bytes."""
    x, y = np.meshgrid(np.linspace(0, 255, 41), np.linspace(0, 255, 24))
    return np.stack([x, y, 255 - x], -1).astype(np.uint8)


def decoded(content):
    return np.asarray(images.load_image(content))


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def code_of(content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnusableImageError) as caught:
            images.load_image(content)
    assert "Mustermann" not in str(caught.value)
    assert caught.value.__cause__ is None  # the error of pydicom may quote a tag
    return caught.value.code


def test_a_dicom_file_and_a_png_of_the_same_picture_give_the_same_pixels(colours):
    pixels = uploads.load_pixels(write(colours, "RGB"), size=16)
    assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.float32)
    np.testing.assert_array_equal(pixels, images.load_pixels(png(colours), size=16))


def test_a_path_and_its_bytes_give_the_same_picture(colours, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(write(colours, "RGB"))
    np.testing.assert_array_equal(np.asarray(images.load_image(path)), colours)


def test_planes_16_bits_12_bits_and_implicit_types_give_the_same_picture(colours):
    by_plane = np.ascontiguousarray(colours.transpose(2, 0, 1)).tobytes()
    sides = {"Rows": colours.shape[0], "Columns": colours.shape[1]}
    np.testing.assert_array_equal(decoded(write(by_plane, "RGB", PlanarConfiguration=1, **sides)), colours)
    np.testing.assert_array_equal(decoded(write(colours.astype(np.uint16) << 8, "RGB")), colours)
    np.testing.assert_array_equal(decoded(write(colours, "RGB", syntax=ImplicitVRLittleEndian)), colours)
    twelve = write(colours.astype(np.uint16) << 4, "RGB", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(decoded(twelve), colours)


def test_ybr_is_converted_to_rgb(colours):
    ybr = convert_color_space(colours, "RGB", "YBR_FULL")
    assert np.abs(decoded(write(ybr, "YBR_FULL")).astype(int) - colours).max() <= 2
    assert np.abs(ybr.astype(int) - colours).max() > 50


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL"])
def test_an_embedded_jpeg_decodes_like_a_plain_one(colours, photometric):
    image = Image.fromarray(colours)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    # Two implementations of the colour conversion may round differently.
    difference = decoded(jpeg_dicom(image, photometric)).astype(int) - np.asarray(Image.open(buffer))
    assert np.abs(difference).max() <= 3


def test_an_rgb_jpeg_is_not_converted():
    flat = np.full((16, 16, 3), (200, 60, 90), np.uint8)
    buffer = io.BytesIO()
    # Declared as YCbCr, so that the encoder converts nothing and writes no Adobe marker.
    Image.frombytes("YCbCr", (16, 16), flat.tobytes()).save(buffer, "JPEG", quality=100)
    sides = {"Rows": 16, "Columns": 16}
    content = write(encapsulate([buffer.getvalue()]), "RGB", syntax=JPEGBaseline8Bit, **sides)
    assert np.abs(decoded(content).astype(int) - flat).max() <= 3


def test_a_grey_jpeg_decodes_unless_the_header_states_colours(colours):
    grey = Image.fromarray(colours).convert("L")
    shown = decoded(jpeg_dicom(grey, "MONOCHROME2"))
    assert np.abs(shown[..., 0].astype(int) - np.asarray(grey)).max() <= 20
    assert code_of(jpeg_dicom(grey, "YBR_FULL_422")) == "image_unreadable"
    assert code_of(jpeg_dicom(Image.fromarray(colours), "MONOCHROME2")) == "image_unreadable"


def test_the_largest_picture_needs_no_more_memory_than_a_plain_jpeg():
    script = """
import re
from pathlib import Path
from PIL import Image
from buckler.modality.picture import images
from tests.unit.modality.picture.dicom_files import jpeg_dicom
content = jpeg_dicom(Image.new("RGB", (7000, 7000), (200, 120, 90)))
images.load_pixels(content, size=112)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 800  # MiB; with colours converted as floats, it would be 1,300


@pytest.mark.parametrize(
    "name", ["SC_rgb_jpeg_dcmtk", "SC_rgb_jpeg_lossy_gdcm", "SC_ybr_full_422_uncompressed", "SC_rgb_dcmtk_+eb+cy+s4"]
)
def test_files_of_one_picture_by_other_tools_decode_alike(name):
    bars = decoded((SAMPLES / "SC_rgb_dcmtk_+eb+cr.dcm").read_bytes()).astype(int)
    assert np.median(np.abs(decoded((SAMPLES / f"{name}.dcm").read_bytes()) - bars)) <= 2


def test_grey_without_a_window_spans_its_bits_and_monochrome1_is_inverted():
    stored = np.array([[0, 1024], [2048, 4095]], np.uint16)
    shown = decoded(write(stored, "MONOCHROME2", BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(shown[..., 0], [[0, 64], [128, 255]])
    np.testing.assert_array_equal(shown[..., 0], shown[..., 2])
    inverted = decoded(write(stored, "MONOCHROME1", BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(inverted, 255 - shown)


def test_the_first_window_applies_after_the_rescaling():
    stored = np.array([[-100, 0], [50, 300]], np.int16)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -10, "WindowCenter": [50.5, 900], "WindowWidth": [101, 1]}
    # 2 x - 10 through a window of 0..100: lower values are black, higher ones white.
    shown = decoded(write(stored, "MONOCHROME2", **tags))
    np.testing.assert_array_equal(shown[..., 0], [[0, 0], [round(255 * 0.9), 255]])


def test_palette_colours_become_rgb():
    table = {}
    for colour, entries in (("Red", [10, 200]), ("Green", [20, 100]), ("Blue", [30, 0])):
        table[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        table[f"{colour}PaletteColorLookupTableData"] = (np.array(entries, "<u2") << 8).tobytes()
    shown = decoded(write(np.array([[0, 1]], np.uint8), "PALETTE COLOR", **table))
    np.testing.assert_array_equal(shown, [[[10, 20, 30], [200, 100, 0]]])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"NumberOfFrames": 2}, "image_unsupported"),
        ({"photometric": "YBR_ICT"}, "image_unsupported"),
        ({"photometric": PATIENT[:16]}, "image_unsupported"),
        ({"syntax": DeflatedExplicitVRLittleEndian}, "image_unsupported"),
        ({"SamplesPerPixel": 1}, "image_unsupported"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "image_unsupported"),
        ({"BitsStored": 4, "HighBit": 3}, "image_unsupported"),
        ({"Rows": 40000, "Columns": 40000}, "image_too_large"),
        ({"Rows": 25}, "image_unreadable"),
        ({"Rows": 0}, "image_unreadable"),
    ],
)
def test_unsupported_files_are_rejected_with_a_code_and_without_their_tags(colours, changes, code):
    photometric = changes.pop("photometric", "RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about values outside the standard
        content = write(colours, photometric, **changes)
    assert code_of(content) == code


def test_a_jpeg_larger_than_the_header_states_is_rejected_before_it_is_decoded(colours):
    content = jpeg_dicom(Image.new("RGB", (4000, 4000)), Rows=24, Columns=41)
    assert code_of(content) == "image_unreadable"
    not_a_jpeg = write(encapsulate([b"\xff\xd8\xff" + bytes(9)]), "RGB", syntax=JPEGBaseline8Bit, Rows=1, Columns=1)
    assert code_of(not_a_jpeg) == "image_unreadable"


def test_a_deflated_file_is_rejected_before_it_is_decompressed():
    deflated = write(np.zeros((4, 4), np.uint8), "MONOCHROME2", syntax=DeflatedExplicitVRLittleEndian)
    meta = deflated[: 144 + int.from_bytes(deflated[140:144], "little")]
    size = 100_000_000
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = meta + stream.compress(struct.pack("<HH2sHI", 9, 0x10, b"OB", 0, size) + bytes(size)) + stream.flush()
    tracemalloc.start()
    try:
        assert code_of(content) == "image_unsupported"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 10


def test_a_baseline_jpeg_of_many_scans_is_rejected_before_it_is_decoded():
    side = 300
    plain = saved(Image.new("RGB", (side, side), (10, 200, 30)), subsampling=0)
    tables = plain[: plain.find(b"\xff\xda")]
    scans = b"".join(
        b"\xff\xda\0\x08\1" + bytes([number, 0 if number == 1 else 0x11, 0, 63, 0, 0]) for number in (1, 2, 3)
    )
    sides = {"Rows": side, "Columns": side}

    def file(times: int) -> bytes:
        picture = tables + scans * times + b"\xff\xd9"
        return write(encapsulate([picture]), "YBR_FULL", syntax=JPEGBaseline8Bit, **sides)

    with pytest.raises(UnusableImageError, match="whose data are damaged or end early"):
        images.load_pixels(file(1))  # its scans have no data
    with pytest.raises(UnusableImageError, match="expected fewer scans"):
        images.load_pixels(file(4000))  # 12,000 passes over all pixels, in 130 kB


@pytest.mark.parametrize("name", ["SC_rgb_rle", "JPEG2000", "MR_small_jpeg_ls_lossless", "ExplVR_BigEnd"])
def test_other_codings_are_unsupported(name):
    assert code_of((SAMPLES / f"{name}.dcm").read_bytes()) == "image_unsupported"


def test_a_jpeg_that_is_not_baseline_is_unsupported(colours):
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "JPEG", progressive=True)
    sides = {"Rows": colours.shape[0], "Columns": colours.shape[1]}
    content = write(encapsulate([buffer.getvalue()]), "YBR_FULL_422", syntax=JPEGBaseline8Bit, **sides)
    assert code_of(content) == "image_unsupported"


@pytest.mark.parametrize("name", ["test-SR.dcm", "rtplan.dcm", "badVR.dcm", "priv_SQ.dcm", "meta_missing_tsyntax.dcm"])
def test_a_file_without_a_picture_is_unreadable(name):
    assert code_of((SAMPLES / name).read_bytes()) == "image_unreadable"


def test_truncated_or_changed_files_decode_or_are_rejected(colours):
    generator = np.random.default_rng(5)
    whole = [write(colours, "RGB"), jpeg_dicom(Image.fromarray(colours))]
    for content in whole:
        for cut in generator.integers(0, len(content) - 200, size=40):
            assert code_of(content[:cut]) in ("image_unreadable", "image_unsupported", "image_empty")
    for number in range(400):
        changed = bytearray(whole[number % 2])
        for place in generator.integers(128, len(changed) // 3, size=1 + number % 4):
            changed[place] = generator.integers(256)
        with suppress(UnusableImageError):
            assert images.load_image(bytes(changed)).mode == "RGB"


def test_patient_tags_are_not_parsed(colours, monkeypatch):
    read = []
    real = pydicom.dcmread

    def reading(*arguments, **options):
        read.append(real(*arguments, **options))
        return read[-1]

    monkeypatch.setattr(pydicom, "dcmread", reading)
    dicom.decode(write(colours, "RGB"), MAX_PIXELS)
    assert "PatientName" not in read[0]
    assert "PatientID" not in read[0]


@pytest.mark.parametrize(
    ("name", "code"),
    [("badVR", "image_unreadable"), ("priv_SQ", "image_unreadable"), ("UN_sequence", "image_unsupported")],
)
def test_the_first_dicom_file_of_a_process_causes_no_log_and_no_warning(name, code):
    script = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.DEBUG)
from buckler.modality.picture import images
from buckler.errors import UnusableImageError
assert "pydicom" not in sys.modules
try:
    images.load_image(Path(sys.argv[1]))
except UnusableImageError as error:
    print(error.code)
"""
    command = [sys.executable, "-W", "always", "-c", script, str(SAMPLES / f"{name}.dcm")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{code}\n", "")
