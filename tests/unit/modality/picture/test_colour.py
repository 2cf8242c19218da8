"""Colour profiles are applied as browsers do; sRGB and unusable ones change nothing."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from buckler.modality.picture import colour, colour_space, images
from tests.picture_bytes import after_start, noise, saved, segment

ADOBE_RGB = colour_space.profile_of((colour_space.D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), (563 / 256,))
DISPLAY_P3 = colour_space.profile_of(colour_space.DISPLAY_P3, colour_space.SRGB_CURVE)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile(gamma):
    """A profile of grey pixels."""
    curve = b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(gamma * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    table = struct.pack(">I4sII4sII", 2, b"kTRC", 156, 16, b"wtpt", 172, 20)
    header = struct.pack(">I4xI4s4s4s12x4s28x", 192, 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp")
    header += struct.pack(">iii", 63190, 65536, 54061)
    return header + bytes(128 - len(header)) + table + curve + white


def cmyk_profile():
    """A profile of a press whose inks are pure: L falls with each of them, to which the three colours add a and b."""
    points = np.array(np.meshgrid(*[[0, 1]] * 4, indexing="ij")).reshape(4, -1).T
    light = 1 - np.clip(points @ [0.25, 0.25, 0.1, 0.4], 0, 1)
    lab = np.stack([light, 0.5 + points @ [-0.2, 0.25, 0, 0], 0.5 + points @ [-0.2, 0, 0.35, 0]], -1).clip(0, 1)
    grid = bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    ramp = np.linspace(0, 255, 256).astype(np.uint8).tobytes()
    table = b"mft1\0\0\0\0" + grid + 4 * ramp + np.rint(lab * 255).astype(np.uint8).tobytes() + 3 * ramp
    start = 128 + 4 + 12
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x", start + len(table), 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    ) + struct.pack(">iii", 63190, 65536, 54061)
    return header + bytes(128 - len(header)) + struct.pack(">I4sII", 1, b"A2B0", start, len(table)) + table


def one(rgb, profile, mode="RGB"):
    """What a pixel of a colour becomes."""
    return colour.to_srgb(Image.new(mode, (1, 1), rgb), profile).convert("RGB").getpixel((0, 0))


def with_profile(content, profile, size=65_000):
    """A JPEG with a profile in as many segments as needed."""
    parts = [profile[start : start + size] for start in range(0, len(profile), size)]
    inserted = [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part) for number, part in enumerate(parts, 1)
    ]
    return after_start(b"".join(inserted), content)


@pytest.mark.parametrize(
    ("profile", "stored", "shown"),
    [
        (ADOBE_RGB, (128, 128, 128), (128, 128, 128)),
        (DISPLAY_P3, (255, 0, 0), (255, 0, 0)),
        (SRGB, (200, 120, 100), (200, 120, 100)),
    ],
)
def test_a_colour_becomes_that_of_srgb(profile, stored, shown):
    np.testing.assert_allclose(one(stored, profile), shown, atol=1)


def encoded(light):
    """The values of sRGB, 0..255, for linear light."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def by_definition(rgb, chromaticities, gamma):
    """Convert one colour with XYZ at D65, independently of profiles."""

    def matrix(points):
        white, *primaries = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in points)
        columns = np.stack(primaries, 1)
        return columns * np.linalg.solve(columns, white)

    return encoded(np.linalg.solve(matrix(colour_space.SRGB), matrix(chromaticities) @ (np.array(rgb) / 255) ** gamma))


@pytest.mark.parametrize("stored", [(200, 120, 100), (90, 60, 50), (10, 20, 30), (250, 240, 235), (90, 140, 60)])
def test_profiles_follow_the_definition_of_their_space(stored):
    points = (colour_space.D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
    np.testing.assert_allclose(one(stored, ADOBE_RGB), by_definition(stored, points, 563 / 256), atol=1.5)
    points = colour_space.DISPLAY_P3
    np.testing.assert_allclose(
        one(stored, colour_space.profile_of(points, (2.2,))), by_definition(stored, points, 2.2), atol=1.5
    )


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_srgb_profile_changes_no_pixel(mode, kind):
    plain = saved(noise(mode), kind)
    marked = saved(noise(mode), kind, icc_profile=SRGB)
    assert plain != marked
    np.testing.assert_array_equal(images.load_pixels(marked), images.load_pixels(plain))


@pytest.mark.parametrize("size", [65_000, 100])
def test_the_profile_of_a_jpeg_is_applied_however_many_segments_hold_it(size):
    content = saved(noise(), quality=95)
    expected = colour.to_srgb(Image.open(io.BytesIO(content)).convert("RGB"), ADOBE_RGB)
    found = images.load_image(with_profile(content, ADOBE_RGB, size))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    assert found.info == {}


def test_grey_pixels_take_a_profile_of_grey_or_of_rgb():
    assert one(64, grey_profile(1.0), "L") == pytest.approx((137, 137, 137), abs=1)
    assert one(128, grey_profile(2.2), "L") == pytest.approx((128, 128, 128), abs=1)
    linear = colour_space.profile_of(colour_space.SRGB, (1.0,))
    assert one(64, linear, "L") == pytest.approx((137, 137, 137), abs=1)


def from_lab(light, a, b):
    """The sRGB colour of CIELAB at D50."""
    y = (light + 16) / 116
    xyz = np.array([0.9642, 1, 0.8249]) * np.array([y + a / 500, y, y - b / 200]) ** 3
    return encoded([[3.1341, -1.6174, -0.4907], [-0.9788, 1.9163, 0.0334], [0.0720, -0.2290, 1.4052]] @ xyz)


def test_a_cmyk_jpeg_with_a_profile_is_shown_through_it():
    inks = Image.new("CMYK", (16, 16), (20, 60, 80, 90))
    plain = images.load_pixels(saved(inks, quality=100))
    shown = images.load_pixels(saved(inks, quality=100, icc_profile=cmyk_profile()))
    # 20 of cyan and 60 of magenta, 80 of yellow, 90 of black
    light, a, b = (
        1 - (0.25 * 80 + 0.1 * 80 + 0.4 * 90) / 255,
        (0.25 * 60 - 0.2 * 20) / 255,
        (0.35 * 80 - 0.2 * 20) / 255,
    )
    np.testing.assert_allclose(255 * shown[8, 8], from_lab(100 * light, 255 * a, 255 * b), atol=6)
    assert np.abs(shown - plain).max() > 0.05
    white = images.load_pixels(saved(Image.new("CMYK", (16, 16)), quality=100, icc_profile=cmyk_profile()))
    np.testing.assert_allclose(white, 1, atol=0.02)


def changed(profile, place, value):
    return profile[:place] + value + profile[place + len(value) :]


UNUSABLE = {
    "garbage": bytes(range(256)) * 4,
    "empty": b"",
    "cut": ADOBE_RGB[:200],
    "without a signature": changed(ADOBE_RGB, 36, b"xxxx"),
    "of version 9": changed(ADOBE_RGB, 8, b"\x09"),
    "of a link between devices": changed(ADOBE_RGB, 12, b"link"),
    "of Lab pixels": changed(ADOBE_RGB, 16, b"Lab "),
    "for CMYK": changed(ADOBE_RGB, 16, b"CMYK"),
    "for grey": grey_profile(1.0),
    "with millions of tags": changed(ADOBE_RGB, 128, b"\x00\xff\xff\xff"),
    "with tags outside": changed(ADOBE_RGB, 136, b"\x7f\xff\xff\xff"),
    "without tags": changed(ADOBE_RGB, 128, bytes(4)),
    "with one tag's type wrong": ADOBE_RGB.replace(b"para", b"text", 1),
    "that is black": ADOBE_RGB.replace(b"para\0\0\0\0\0\0\0\0\0\2", b"para\0\0\0\0\0\0\0\0\x7f\xff"),
    "too large": ADOBE_RGB + bytes(colour.MAX_PROFILE_BYTES),
    "of a press": cmyk_profile(),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_profile_is_ignored(name, caplog):
    caplog.set_level("DEBUG", "buckler.modality.picture.colour")
    picture = noise()
    assert colour.to_srgb(picture, UNUSABLE[name]) is picture
    assert "ignored a colour profile" in caplog.text


def test_an_incomplete_profile_of_a_jpeg_is_ignored():
    content = saved(noise())
    whole = images.load_pixels(content)
    parts = [segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 3]) + ADOBE_RGB[:200]) for n in (1, 2)]
    np.testing.assert_array_equal(images.load_pixels(after_start(b"".join(parts), content)), whole)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_profile_raises_nothing(seed):
    draw = np.random.default_rng(seed)
    for _ in range(40):
        profile = bytearray([ADOBE_RGB, grey_profile(1.8), cmyk_profile()][draw.integers(3)])
        for place in draw.integers(0, len(profile), draw.integers(1, 8)):
            profile[place] = draw.integers(256)
        for mode in ("L", "RGB", "CMYK"):
            picture = Image.new(mode, (2, 2))
            assert colour.to_srgb(picture, bytes(profile)).size == (2, 2)


def test_no_light_has_these_chromaticities():
    assert colour_space.profile_of(((0, 0), (0, 0), (0, 0), (0, 0)), (2.2,)) is None
    assert colour_space.profile_of((colour_space.D65,) + 3 * ((0.3, 0.3),), (2.2,)) is None
