import io

import numpy as np
import pytest
from PIL import Image

from buckler.errors import UnusableImageError
from buckler.modality.picture import images, uploads
from tests.unit.modality.picture.dicom_files import dicom, jpeg_dicom

# Which way to turn the file's picture for each EXIF orientation, so that a viewer that follows it shows it upright.
STORED = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def upright(width=600, height=300):
    """A picture whose four corners differ."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def turned_jpeg(image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    method = STORED[orientation]
    stored = image if method is None else image.transpose(method)
    return encode(stored, "JPEG", quality=95, exif=exif)


FILES = {
    **{f"JPEG turned {each}": lambda image, each=each: turned_jpeg(image, each) for each in STORED},
    "PNG": lambda image: encode(image, "PNG"),
    "PNG with transparency": lambda image: encode(image.convert("RGBA"), "PNG"),
    "DICOM": lambda image: dicom(np.asarray(image), "RGB"),
    "DICOM with JPEG": jpeg_dicom,
}


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
def test_the_shown_picture_is_the_upright_one_in_proportion(write):
    upload = uploads.load(write(upright()), size=16, shown=200)
    assert (upload.width, upload.height) == (600, 300)
    assert (upload.shown.size, upload.shown.mode) == ((200, 100), "RGB")
    expected = np.asarray(upright(200, 100)).astype(int)
    assert np.abs(np.asarray(upload.shown).astype(int) - expected).max() < 8


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
def test_pixels_are_the_same_with_and_without_the_shown_picture(write):
    content = write(upright())
    plain, shown = uploads.load(content, size=16), uploads.load(content, size=16, shown=200)
    assert plain.shown is None
    np.testing.assert_array_equal(shown.values, plain.values)
    assert (shown.width, shown.height, shown.size_bytes) == (plain.width, plain.height, len(content))


def test_a_picture_is_decoded_once(monkeypatch):
    decoded = []
    real = images._decode
    monkeypatch.setattr(images, "_decode", lambda *given: decoded.append(1) or real(*given))
    uploads.load(encode(upright(), "JPEG"), size=16, shown=200)
    assert len(decoded) == 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "DICOM"])
def test_a_picture_above_a_given_size_is_refused_by_its_header(kind, monkeypatch):
    picture = upright(60, 30)
    content = dicom(np.asarray(picture), "RGB") if kind == "DICOM" else encode(picture, kind)
    assert uploads.load(content, size=16, most_pixels=1800).values.shape == (16, 16, 3)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(UnusableImageError) as caught:
        uploads.load(content, size=16, most_pixels=1799)
    assert caught.value.code == "image_too_large"


@pytest.mark.parametrize(("size", "shown"), [((200, 100), (200, 100)), ((3000, 1), (200, 1)), ((1, 400), (1, 200))])
def test_small_pictures_keep_their_sides_and_thin_ones_a_pixel(size, shown):
    assert uploads.load(encode(Image.new("RGB", size), "PNG"), size=16, shown=200).shown.size == shown


def test_the_shown_picture_has_no_metadata():
    options = {"icc_profile": b"profile of Erika", "comment": b"Erika Mustermann"}
    content = encode(upright(60, 30), "JPEG", **options)
    shown = uploads.load(content, size=16, shown=200).shown
    assert b"Erika" in content
    assert shown.info == {}
    assert b"iCCP" not in images.encode_png(shown)


def test_an_encoded_picture_decodes_to_the_same_pixels():
    np.testing.assert_array_equal(np.asarray(images.load_image(images.encode_png(upright()))), np.asarray(upright()))
