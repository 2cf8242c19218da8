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
from buckler.modality.picture import images, uploads
from tests.picture_bytes import repeated_scan, saved
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


def test_five_megapixels_without_compression_need_little_memory():
    script = """
import re
from pathlib import Path
import numpy as np
from buckler.modality.picture import images
from tests.unit.modality.picture.dicom_files import dicom
content = dicom(np.full((1944, 2592, 3), (200, 120, 90), np.uint8), "RGB")
images.load_pixels(content, size=112)
status = Path("/proc/self/status").read_text()
print(len(content) > 15_000_000, int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    uncompressed, megabytes = done.stdout.split()
    assert uncompressed == "True"
    assert int(megabytes) < 250


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


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"NumberOfFrames": 2}, "image_unsupported"),
        ({"photometric": "YBR_ICT"}, "image_unsupported"),
        ({"photometric": PATIENT[:16]}, "image_unsupported"),
        ({"SamplesPerPixel": 1}, "image_unsupported"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "image_unreadable"),
        ({"BitsAllocated": 12}, "image_unsupported"),
        ({"BitsStored": 9}, "image_unsupported"),
        ({"HighBit": 3}, "image_unsupported"),
        ({"PixelRepresentation": 1}, "image_unsupported"),
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


def test_a_deflated_file_is_inflated_up_to_its_pixel_data_only():
    deflated = write(np.zeros((4, 4), np.uint8), "MONOCHROME2", syntax=DeflatedExplicitVRLittleEndian)
    meta = deflated[: 144 + int.from_bytes(deflated[140:144], "little")]
    size = 100_000_000
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = meta + stream.compress(struct.pack("<HH2sHI", 9, 0x10, b"OB", 0, size) + bytes(size)) + stream.flush()
    tracemalloc.start()
    try:
        assert code_of(content) == "image_unreadable"  # no pixel data among the first bytes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 10


def test_a_jpeg_of_many_scans_is_rejected_before_it_is_decoded():
    side = 300
    picture = saved(Image.new("RGB", (side, side), (10, 200, 30)), progressive=True)
    sides = {"Rows": side, "Columns": side}

    def file(times: int) -> bytes:
        stream = repeated_scan(picture, times)
        return write(encapsulate([stream]), "YBR_FULL", syntax=JPEGBaseline8Bit, **sides)

    assert decoded(write(encapsulate([picture]), "YBR_FULL", syntax=JPEGBaseline8Bit, **sides)).shape == (side, side, 3)
    assert code_of(file(12_000)) == "image_unreadable"  # 12,000 passes over all pixels, in 300 kB


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


@pytest.mark.parametrize(
    ("name", "code"),
    [("badVR", "image_unsupported"), ("priv_SQ", "image_unreadable"), ("UN_sequence", "image_unreadable")],
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
