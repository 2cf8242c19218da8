"""AVIF, WebP, TIFF and BMP: the right pixels, or a clear refusal."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import foreign, images

TIFFS = ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg"]
LOSSY = {"AVIF": 12, "WEBP": 12, "jpeg": 12}
WRITTEN = [("WEBP", {}), ("WEBP", {"lossless": True}), ("AVIF", {}), ("BMP", {})]
WRITTEN += [("TIFF", {"compression": name}) for name in TIFFS]


def picture(mode: str = "RGB", width: int = 120, height: int = 80) -> Image.Image:
    """Return smooth colours, another one in every corner, as files of cameras have."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    colours = np.stack([x, y, (1 - x) * (1 - y)], axis=-1)
    image = Image.fromarray((255 * colours).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((65535 * x * y).astype(np.uint16))
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def shown(content: bytes) -> np.ndarray:
    return np.asarray(images.load_image(content)).astype(int)


def refusal(content: bytes, **limits) -> UnusableImageError:
    with pytest.raises(UnusableImageError) as caught:
        images.load(content, **limits)
    return caught.value


@pytest.mark.parametrize(("kind", "options"), WRITTEN)
def test_the_pixels_are_those_that_were_saved(kind: str, options: dict):
    content = saved(picture(), kind, **options)
    off = LOSSY.get(options.get("compression", kind), 0) if not options.get("lossless") else 0
    assert np.abs(shown(content) - np.asarray(picture())).max() <= off
    np.testing.assert_array_equal(shown(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    info = images.inspect(content)
    assert (info.width, info.height, info.mode) == (120, 80, "RGB")
    assert info.format == {"WEBP": "WebP"}.get(kind, kind)


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_grey_and_palettes_keep_their_values(kind: str, mode: str):
    np.testing.assert_array_equal(shown(saved(picture(mode), kind)), np.asarray(picture(mode).convert("RGB")))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_grey_of_sixteen_bits_keeps_its_upper_byte(compression: str):
    content = saved(picture("I;16"), "TIFF", compression=compression)
    assert images.inspect(content).mode == "I;16"
    np.testing.assert_array_equal(shown(content)[..., 0], np.asarray(picture("I;16")) >> 8)


def patched(content: bytes, tag: int, value: int) -> bytes:
    """Return a little-endian TIFF whose entry ``tag`` has another value."""
    place = int.from_bytes(content[4:8], "little")
    for entry in range(place + 2, place + 2 + 12 * int.from_bytes(content[place : place + 2], "little"), 12):
        if int.from_bytes(content[entry : entry + 2], "little") == tag:
            return content[: entry + 8] + value.to_bytes(4, "little") + content[entry + 12 :]
    raise ValueError(f"no tag {tag}")


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_white_may_be_zero(mode: str):
    content = saved(picture(mode), "TIFF")
    np.testing.assert_array_equal(shown(patched(content, 262, 0)), 255 - shown(content))


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("TIFF", {})])
def test_transparency_shows_white(kind: str, options: dict):
    image = picture()
    image.putalpha(Image.fromarray(np.repeat([[0] * 60 + [255] * 60], 80, axis=0).astype(np.uint8)))
    pixels = shown(saved(image, kind, **options))
    assert (pixels[:, :60] == 255).all()
    np.testing.assert_array_equal(pixels[:, 60:], np.asarray(picture())[:, 60:])


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize(("kind", "off"), [("WEBP", 0), ("AVIF", 12), ("TIFF", 0)])
def test_the_orientation_is_applied_once(kind: str, off: int, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(picture(), kind, exif=exif, **options)
    turn = {2: (0,), 3: (3,), 4: (1,), 5: (5,), 6: (4,), 7: (6,), 8: (2,)}[orientation]
    expected = np.asarray(picture().transpose(Image.Transpose(turn[0])))
    assert np.abs(shown(content) - expected).max() <= off
    info = images.inspect(content)
    assert (info.width, info.height) == ((80, 120) if orientation > 4 else (120, 80))


def test_an_orientation_in_xmp_alone_turns_nothing():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    content = saved(picture(), "TIFF", tiffinfo={700: xmp})
    np.testing.assert_array_equal(shown(content), np.asarray(picture()))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "TIFF"])
def test_a_colour_profile_comes_along(kind: str):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = saved(picture(), kind, icc_profile=profile)
    assert foreign.decode({"WEBP": "WebP"}.get(kind, kind), content, 10_000).profile == profile


@pytest.mark.parametrize("place", range(1, 11))
@pytest.mark.parametrize(("kind", "options"), WRITTEN)
def test_a_file_that_is_cut_off_is_refused(kind: str, options: dict, place: int):
    whole = saved(picture(), kind, **options)
    error = refusal(whole[: len(whole) * place // 11])
    assert error.code is ErrorCode.IMAGE_UNREADABLE
    assert str(error).startswith("expected a complete ")


def directory_first(content: bytes) -> bytes:
    """Return a little-endian TIFF of one strip with its pixels at the end."""
    image = Image.open(io.BytesIO(content))
    (offset,), (count,) = image.tag_v2[273], image.tag_v2[279]
    return patched(content, 273, len(content)) + content[offset : offset + count]


@pytest.mark.parametrize("compression", TIFFS)
@pytest.mark.parametrize("tenths", [5, 9])
def test_pixels_of_a_tiff_that_are_cut_off_are_refused(compression: str, tenths: int):
    whole = directory_first(saved(picture(), "TIFF", compression=compression))
    assert np.abs(shown(whole) - np.asarray(picture())).max() <= LOSSY.get(compression, 0)
    strip = len(whole) - Image.open(io.BytesIO(whole)).tag_v2[279][0] * tenths // 10
    error = refusal(whole[:strip])
    assert (error.code, str(error)) == (
        ErrorCode.IMAGE_UNREADABLE,
        "expected a complete TIFF, got one that is cut off; save it again",
    )


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "jpeg"])
def test_damage_inside_a_strip_is_refused(compression: str):
    whole = directory_first(saved(picture(), "TIFF", compression=compression))
    middle = len(whole) - Image.open(io.BytesIO(whole)).tag_v2[279][0] // 2
    damaged = whole[:middle] + b"\xff\xd9\0\xff\xd8" * 20 + whole[middle + 100 :]
    assert refusal(damaged).code is ErrorCode.IMAGE_UNREADABLE


def test_missing_strips_are_refused():
    content = saved(picture(height=400, width=400), "TIFF", compression="tiff_lzw", strip_size=40_000)
    assert len(Image.open(io.BytesIO(content)).tag_v2[273]) > 2
    higher = patched(content, 257, 2_000)
    assert "strips or tiles, got" in str(refusal(higher))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "TIFF"])
def test_several_pictures_in_one_file_are_refused_with_their_number(kind: str):
    content = saved(
        picture(), kind, save_all=True, append_images=[picture("L").convert("RGB"), picture("1").convert("RGB")]
    )
    error = refusal(content)
    assert error.code is ErrorCode.IMAGE_UNSUPPORTED
    expected = "one page, got 3" if kind == "TIFF" else "a still picture, got an animation of 3 frames"
    assert expected in str(error)


def test_a_thumbnail_beside_the_page_does_not_count():
    thumbnail = picture(width=12, height=8)
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    content = saved(picture(), "TIFF", save_all=True, append_images=[thumbnail])
    np.testing.assert_array_equal(shown(content), np.asarray(picture()))


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (picture("CMYK"), {}, "grey, RGB or a palette"),
        (picture("1"), {"compression": "group4"}, "LZW, deflate, JPEG or PackBits"),
        (picture("L").convert("F"), {}, "samples of 8 or 16 bits"),
        (picture("L").convert("I"), {}, "samples of 8 or 16 bits"),
    ],
)
def test_other_codings_of_tiff_are_named(image: Image.Image, options: dict, expected: str):
    error = refusal(saved(image, "TIFF", **options))
    assert error.code is ErrorCode.IMAGE_UNSUPPORTED
    assert expected in str(error)
    assert "save it as RGB of 8 bits, or as PNG" in str(error)


@pytest.mark.parametrize(("kind", "options"), WRITTEN)
def test_too_many_pixels_are_refused_by_the_header(kind: str, options: dict):
    assert refusal(saved(picture(), kind, **options), most_pixels=9_000).code is ErrorCode.IMAGE_TOO_LARGE


def test_a_bomb_is_refused_at_once():
    width, height = 60_000, 60_000
    data = zlib.compress(bytes(1_000_000))
    content = patched(patched(saved(picture(), "TIFF", compression="tiff_adobe_deflate"), 256, width), 257, height)
    assert refusal(content + data).code is ErrorCode.IMAGE_TOO_LARGE
    bitmap = bytearray(saved(picture(), "BMP"))
    bitmap[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    assert refusal(bytes(bitmap)).code is ErrorCode.IMAGE_TOO_LARGE


def test_a_picture_of_the_largest_size_fits_into_the_childs_memory():
    content = saved(Image.new("RGB", (10_000, 4_900)), "TIFF", compression="tiff_lzw")
    assert images.inspect(content).width == 10_000
