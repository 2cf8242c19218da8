import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from buckler.errors import DataError, UnusableImageError
from buckler.modality.picture import images
from buckler.modality.picture.decode_budget import MAX_PIXELS
from tests.forms import pictures_of

RED = (200, 10, 20)

# Pillow warns about broken metadata and ignores them.
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def code_of(content):
    with pytest.raises(UnusableImageError) as caught:
        images.load_pixels(content)
    with pytest.raises(UnusableImageError, match="expected") as inspected:
        images.inspect(content)
    assert inspected.value.code == caught.value.code
    return caught.value.code


def gradient(width=40, height=24):
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pixels_are_float32_between_0_and_1_at_the_requested_size(kind):
    content = encode(gradient(), kind)
    pixels = images.load_pixels(content, size=16)
    assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.float32)
    assert 0 <= pixels.min() < pixels.max() <= 1
    assert images.load_pixels(content).shape == (24, 40, 3)


@pytest.mark.parametrize("sides", [(224, 75), (75, 224), (31, 32)])
def test_the_shape_of_a_picture_does_not_reach_the_network(sides):
    """Bars beside or above a picture, as padding makes them, would tell its shape: every picture fills the square."""
    plain = images.load_pixels(encode(Image.new("RGB", (64, 64), RED)), size=32)
    np.testing.assert_array_equal(images.load_pixels(encode(Image.new("RGB", sides, RED)), size=32), plain)
    square = images.load_pixels(encode(gradient(224, 224)), size=32)
    np.testing.assert_allclose(images.load_pixels(encode(gradient(*sides)), size=32), square, atol=0.03)


def test_a_png_written_from_pixels_decodes_to_the_same_pixels():
    content = encode(gradient())
    np.testing.assert_array_equal(
        images.load_pixels(images.to_png(images.load_pixels(content))), images.load_pixels(content)
    )


def test_downscaling_a_fine_pattern_gives_grey_without_aliasing():
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = images.load_pixels(encode(Image.fromarray(stripes)), size=32)
    np.testing.assert_allclose(pixels, 0.5, atol=0.05)


def test_a_path_of_any_name_and_its_bytes_give_the_same_pixels(tmp_path):
    path = tmp_path / "picture.txt"
    path.write_bytes(encode(gradient(), "JPEG"))
    np.testing.assert_array_equal(images.load_pixels(path), images.load_pixels(path.read_bytes()))
    assert images.inspect(path) == images.ImageInfo(40, 24, "RGB", "JPEG")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    content = encode(Image.new("RGB", (8, 8), (250, 250, 250)).convert(mode, palette=Image.Palette.ADAPTIVE), kind)
    assert images.inspect(content).mode == mode
    np.testing.assert_allclose(images.load_pixels(content), 250 / 255, atol=0.03)


def test_sixteen_bit_grey_keeps_its_brightness():
    content = encode(Image.fromarray(np.full((8, 8), 0x8000, np.uint16)))
    np.testing.assert_allclose(images.load_pixels(content), 0.5, atol=0.01)


def test_transparent_pixels_become_white_and_not_their_hidden_colour():
    hidden = Image.new("RGBA", (8, 8), (*RED, 0))
    np.testing.assert_array_equal(images.load_pixels(encode(hidden)), 1)


def test_transparent_palette_entries_become_white():
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([*RED, 0, 0, 0])
    np.testing.assert_array_equal(images.load_pixels(encode(picture, transparency=0)), 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(gradient(), exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))), np.float32) / 255
    np.testing.assert_allclose(images.load_pixels(content), expected, atol=1e-6)
    assert images.inspect(content).width == expected.shape[1]


def test_a_picture_with_broken_exif_decodes():
    content = encode(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff")
    assert images.load_pixels(content).shape == (24, 40, 3)


def test_an_empty_file_is_an_empty_image():
    assert code_of(b"") == "image_empty"


@pytest.mark.parametrize("kind", ["GIF", "ICO", "PPM"])
def test_other_formats_are_unsupported(kind):
    assert code_of(encode(gradient(), kind)) == "image_unsupported"
    assert code_of(b"%PDF-1.7 " + bytes(100)) == "image_unsupported"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_picture_is_unreadable(kind, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    content = encode(noise, kind)
    assert code_of(content[: int(len(content) * share)]) == "image_unreadable"


@pytest.mark.parametrize("sides", [(10_000, 6_401), (20_000, 20_000), (1, MAX_PIXELS + 1)])
def test_a_picture_with_too_many_pixels_is_rejected_by_its_header(sides):
    small = bytearray(encode(Image.new("L", (1, 1))))
    small[16:24] = np.array(sides, ">u4").tobytes()
    small[29:33] = __import__("zlib").crc32(bytes(small[12:29])).to_bytes(4, "big")
    assert code_of(bytes(small)) == "image_too_large"


def test_an_error_names_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot read the picture .*gone\.png: No such file"):
        images.load_pixels(tmp_path / "gone.png")


def test_an_error_names_the_picture_of_a_batch_that_does_not_decode(tmp_path, capsys):
    (tmp_path / "good.png").write_bytes(encode(gradient()))
    (tmp_path / "bad.png").write_bytes(b"bad")
    assert pictures_of(8).load_batch([tmp_path / "good.png"] * 3, description="decode").shape == (3, 8, 8, 3)
    assert "decode: 100%" in capsys.readouterr().err
    with pytest.raises(UnusableImageError, match=r"bad\.png: expected a picture") as caught:
        pictures_of(8).load_batch([tmp_path / "good.png", tmp_path / "bad.png"])
    assert caught.value.code == "image_unsupported"


def test_a_png_of_pixels_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"expected pixels of shape \(height, width, 3\), got \(8, 8\)"):
        images.to_png(np.zeros((8, 8), np.float32))


HEADS = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    encode(gradient())[:60],
    encode(gradient(), "JPEG")[:300],
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=400))
def test_arbitrary_bytes_raise_only_unusable_image_errors(head, tail):
    with pytest.raises(UnusableImageError) as caught:
        images.load_pixels(head + tail)
    assert caught.value.code in UnusableImageError.CODES


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["PNG", "JPEG"]), st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_picture_decodes_or_is_unusable(kind, place, value):
    content = bytearray(encode(gradient(), kind, **({"exif": Image.Exif()} if kind == "PNG" else {})))
    content[place % len(content)] = value
    try:
        pixels = images.load_pixels(bytes(content), size=8)
    except UnusableImageError:
        return
    assert pixels.shape == (8, 8, 3)
    assert 0 <= pixels.min() <= pixels.max() <= 1
