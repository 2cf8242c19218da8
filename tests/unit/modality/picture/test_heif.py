"""Pictures of iPhones: the right pixels, turned once, or a clear refusal."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import foreign, heif, images
from tests.absent import absent
from tests.unit.modality.picture.heic_files import heic

CORNERS = np.array([[(200, 40, 40), (40, 200, 40)], [(40, 40, 200), (230, 230, 230)]])
TURNS = {
    2: lambda corners: corners[:, ::-1],
    3: lambda corners: corners[::-1, ::-1],
    5: lambda corners: corners.transpose(1, 0, 2),
    6: lambda corners: np.rot90(corners, -1),
    8: lambda corners: np.rot90(corners),
}


def shown(content: bytes) -> np.ndarray:
    return np.asarray(images.load_image(content)).astype(int)


def assert_corners(content: bytes, expected: np.ndarray) -> None:
    pixels = shown(content)
    assert pixels.shape == ((48, 32, 3) if expected is not CORNERS and len(pixels) == 48 else (32, 48, 3))
    found = pixels[np.ix_((4, -5), (4, -5))]
    np.testing.assert_allclose(found, expected, atol=3)


@pytest.mark.parametrize("name", ["plain", "ten_bits", "profile"])
def test_a_picture_has_its_colours_and_sides(name: str):
    assert_corners(heic(name), CORNERS)
    info = images.inspect(heic(name))
    assert (info.width, info.height, info.mode, info.format) == (48, 32, "RGB", "HEIC")


@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_picture_is_turned_exactly_once(orientation: int):
    assert_corners(heic(f"orientation_{orientation}"), TURNS[orientation](CORNERS))
    info = images.inspect(heic(f"orientation_{orientation}"))
    assert (info.width, info.height) == ((32, 48) if orientation >= 5 else (48, 32))


def test_an_orientation_in_exif_alone_turns_nothing():
    assert_corners(heic("orientation_in_exif_only"), CORNERS)


def test_transparency_shows_white():
    white = CORNERS.copy()
    white[:, 1] = 255
    assert_corners(heic("transparent"), white)


def test_a_grey_picture_stays_grey():
    assert images.inspect(heic("grey")).mode == "L"
    assert shown(heic("grey"))[4, 4].tolist() == pytest.approx([88, 88, 88], abs=3)


def test_the_primary_picture_is_taken_of_several():
    assert_corners(heic("second_is_primary"), CORNERS[::-1, ::-1])


def test_a_colour_profile_comes_along():
    profile = foreign.decode("HEIC", heic("profile"), 10_000).profile
    assert profile is not None
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    assert foreign.decode("HEIC", heic(), 10_000).profile is None


def with_colours(content: bytes, primaries: int, transfer: int) -> bytes:
    """Return a HEIC or AVIF whose box ``nclx`` has other numbers."""
    place = content.index(b"colrnclx") + 8
    return content[:place] + primaries.to_bytes(2, "big") + transfer.to_bytes(2, "big") + content[place + 4 :]


def avif() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 32), (200, 40, 40)).save(file, "AVIF", quality=95)
    return file.getvalue()


@pytest.mark.parametrize("content", [heic(), avif()], ids=["HEIC", "AVIF"])
def test_wide_colours_are_converted_and_high_dynamic_range_is_refused(content: bytes):
    # Display P3 (200, 40, 40) is (218, 0, 27) in sRGB, by the matrices of both: red grows, green leaves the range.
    red, green, blue = shown(with_colours(content, 12, 13))[4, 4]
    assert (red, green, blue) == (pytest.approx(218, abs=5), pytest.approx(0, abs=5), pytest.approx(27, abs=9))
    np.testing.assert_allclose(shown(with_colours(content, 1, 13))[4, 4], (200, 40, 40), atol=4)
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        with pytest.raises(UnusableImageError, match=f"got one with {name}; export it as JPEG") as caught:
            shown(with_colours(content, 9, transfer))
        assert caught.value.code is ErrorCode.IMAGE_UNSUPPORTED


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("name", ["plain", "transparent", "orientation_6"])
def test_a_file_that_is_cut_off_is_refused(name: str, tenths: int):
    whole = heic(name)
    with pytest.raises(UnusableImageError, match="expected a complete HEIC picture") as caught:
        images.load_image(whole[: len(whole) * tenths // 10])
    assert caught.value.code is ErrorCode.IMAGE_UNREADABLE


def test_too_many_pixels_are_refused_by_the_header():
    content = heic()
    place = content.index(b"ispe") + 8
    for sides in ((40_000, 40_000), (65_000, 1_000)):
        lying = content[:place] + b"".join(side.to_bytes(4, "big") for side in sides) + content[place + 8 :]
        with pytest.raises(UnusableImageError) as caught:
            images.load_image(lying)
        assert caught.value.code in (ErrorCode.IMAGE_TOO_LARGE, ErrorCode.IMAGE_UNREADABLE)
    with pytest.raises(UnusableImageError) as caught:
        images.load(content, most_pixels=1_000)
    assert caught.value.code is ErrorCode.IMAGE_TOO_LARGE


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(UnusableImageError, match="send a JPEG, or install buckler\\[heic\\]") as caught:
        heif.decode(heic(), 10_000)  # in this process: a child would have the library
    assert caught.value.code is ErrorCode.IMAGE_UNSUPPORTED


def test_a_case_of_a_phone_has_the_pixels_that_viewers_show(real_data: Path):
    folder = real_data.parent / "cases/files/F16-heic"
    if not folder.exists():
        absent(f"no case at {folder}")
    expected = np.asarray(Image.open(folder / "shown.png").convert("RGB"))
    np.testing.assert_array_equal(shown((folder / "input.heic").read_bytes()), expected)
