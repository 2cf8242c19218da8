"""A PNG whose pixels are damaged is refused; flaws of other chunks do not matter; colours are those that people see."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from buckler.errors import UnusableImageError
from buckler.modality.picture import colour, colour_space, images
from tests.picture_bytes import PNG, chunk, exif, header, noise, png_boundaries, saved
from tests.unit.modality.picture.test_colour import ADOBE_RGB, DISPLAY_P3, by_definition, grey_profile

END = chunk(b"IEND")


def packed(samples, depth):
    """Return the bytes of a row of samples of ``depth`` bits."""
    if depth == 16:
        return np.asarray(samples, ">u2").tobytes()
    if depth == 8:
        return np.asarray(samples, np.uint8).tobytes()
    bits = "".join(f"{sample:0{depth}b}" for sample in samples)
    return bytes(int(bits[place : place + 8].ljust(8, "0"), 2) for place in range(0, len(bits), 8))


def written(samples, depth, colour_type, *chunks, interlaced=False, between=b""):
    """Return a PNG of samples ``(height, width, channels)``."""
    height, width = samples.shape[:2]
    passes = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
    pictures = [samples[y::dy, x::dx] for x, dx, y, dy in passes] if interlaced else [samples]
    rows = b"".join(b"\0" + packed(row.ravel(), depth) for each in pictures if each.size for row in each)
    data = zlib.compress(rows)
    half = len(data) // 2
    head = header(width, height, depth, colour_type, 0, 0, int(interlaced))
    return PNG + head + b"".join(chunks) + chunk(b"IDAT", data[:half]) + between + chunk(b"IDAT", data[half:]) + END


def levels(depth, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 1 << depth, (13, 11, channels))


def inserted(content, *chunks):
    """Return a PNG with chunks behind its header."""
    return content[:33] + b"".join(chunks) + content[33:]


def pixels_or_none(content):
    try:
        return images.load_pixels(content)
    except UnusableImageError as error:
        return None if error.code == "image_unreadable" else pytest.fail(f"another code: {error.code}")


def bytes_of(content):
    return np.asarray(images.load_image(content))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_every_depth_and_colour_is_decoded(depth, colour_type, channels, interlaced):
    if depth < 8 and colour_type:
        return
    samples = levels(depth, channels)
    found = bytes_of(written(samples, depth, colour_type, interlaced=interlaced))
    eight = samples >> 8 if depth == 16 else samples * (255 // ((1 << depth) - 1))
    colours = eight[..., : 3 if channels > 2 else 1]
    alpha = eight[..., -1:] / 255 if channels in (2, 4) else 1.0
    expected = np.broadcast_to(colours * alpha + 255 * (1 - alpha), (13, 11, 3))
    np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_is_shown_white(depth, interlaced):
    samples = levels(depth)
    key = int(samples[4, 5, 0])
    if depth == 16:
        samples[0, 0] = key ^ 1  # looks the same with 8 bits
    found = bytes_of(written(samples, depth, 0, chunk(b"tRNS", struct.pack(">H", key)), interlaced=interlaced))
    eight = samples >> 8 if depth == 16 else samples * (255 // ((1 << depth) - 1))
    np.testing.assert_array_equal(found, np.where(samples == key, 255, eight).repeat(3, -1))


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_is_shown_white(depth):
    samples = levels(depth, 3)
    key = samples[4, 5].copy()
    for channel in range(3):
        samples[0, channel] = key
        samples[0, channel, channel] ^= 1
    found = bytes_of(written(samples, depth, 2, chunk(b"tRNS", struct.pack(">3H", *key.tolist()))))
    hidden = (samples == key).all(-1, keepdims=True)
    assert hidden.sum() == 1
    np.testing.assert_array_equal(found, np.where(hidden, 255, samples >> (depth - 8)))


def test_transparency_keys_are_found_in_strips_too(monkeypatch):
    from buckler.modality.picture import rgb

    samples = levels(16)
    content = written(samples, 16, 0, chunk(b"tRNS", struct.pack(">H", int(samples[4, 5, 0]))))
    whole = bytes_of(content)
    monkeypatch.setattr(rgb, "_STRIP_PIXELS", 30)
    np.testing.assert_array_equal(bytes_of(content), whole)


@pytest.mark.parametrize(
    "flawed",
    [
        chunk(b"tEXt", b"Comment\0hello", crc=1),
        chunk(b"tIME", b"", crc=1),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 2_500_000)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b" " * 2_500_000),
        chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(b" " * 60_000_000)),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(b" " * 60_000_000)),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(ADOBE_RGB), crc=1),
        chunk(b"gAMA", struct.pack(">I", 100_000), crc=1),
        chunk(b"eXIf", exif(b"\x01\x12\0\3\0\0\0\1\0\6\0\0", 1)[10:], crc=1),
        chunk(b"pHYs", b"\1"),
        chunk(b"abCd", b"unknown"),
        chunk(b"acTL", struct.pack(">II", 3, 0)) + chunk(b"fcTL", b""),
    ],
)
def test_flaws_and_sizes_of_other_chunks_do_not_matter(flawed):
    content = saved(noise(), "PNG")
    np.testing.assert_array_equal(bytes_of(inserted(content, flawed)), bytes_of(content))
    behind = content[:-12] + flawed + content[-12:]
    np.testing.assert_array_equal(bytes_of(behind), bytes_of(content))


def test_texts_between_the_pixels_do_not_matter():
    samples = levels(8, 3)
    content = written(samples, 8, 2, between=chunk(b"tEXt", b"a\0b", crc=3))
    np.testing.assert_array_equal(bytes_of(content), samples)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"PLTE", b"tRNS"])
def test_a_wrong_checksum_of_what_decides_about_pixels_is_refused(kind):
    content = bytearray(saved(noise("P"), "PNG", transparency=3))
    content[content.index(kind) + 5] ^= 16
    with pytest.raises(UnusableImageError, match=f"whose chunk {kind.decode()} has a wrong checksum") as caught:
        images.load_pixels(bytes(content))
    assert caught.value.code == "image_unreadable"


def with_data(data, height=13):
    return PNG + header(11, height) + chunk(b"IDAT", data) + END


ROWS = b"".join(b"\0" + packed(row.ravel(), 8) for row in levels(8, 3))


def test_the_refusal_states_after_how_many_rows_data_are_changed():
    content = bytearray(saved(noise(side=400), "PNG"))
    start = content.index(b"IDAT") + 4
    place = start + 3 * (len(content) - start) // 4
    content[place : place + 4] = bytes(4)
    sums = content[: content.index(b"IDAT") - 4]
    data = b"".join(_data_of(bytes(content)))
    with pytest.raises(UnusableImageError, match="whose data are changed after about 3") as caught:
        images.load_pixels(bytes(sums) + chunk(b"IDAT", data) + END)
    rows = int(str(caught.value).split("after about ")[1].split(" of 400 rows")[0])
    assert rows in range(295, 401)


def _data_of(content):
    place = len(PNG)
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] == b"IDAT":
            yield content[place + 8 : place + 8 + length]
        place += 12 + length


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_data(zlib.compress(ROWS), height=40), "end after about 13 of 40 rows"),
        (with_data(zlib.compress(ROWS[:-1])), "end after about 12 of 13 rows"),
        (with_data(zlib.compress(ROWS)[:-1]), "end after about 13 of 13 rows"),
        (with_data(zlib.compress(ROWS)[:-4] + bytes(4)), r"changed after about \d+ of 13 rows"),
        (with_data(zlib.compress(ROWS)[:100]), r"end after about \d of 13 rows"),
        (with_data(zlib.compress(ROWS), height=12), "more data than its pixels need"),
        (with_data(b""), "end after about 0 of 13 rows"),
        (with_data(b"no zlib"), "changed after about 0 of 13 rows"),
        (with_data(zlib.compress(ROWS)[:60] + bytes(200)), r"after about \d of 13 rows"),
        (PNG + header(11, 13) + END, "without pixels"),
        (PNG + header(11, 13, 8, 3) + chunk(b"IDAT", zlib.compress(bytes(156))) + END, "without palette"),
        (PNG + header(11, 13) + chunk(b"CgBI", b"") + END, "critical chunk"),
    ],
)
def test_missing_or_changed_data_are_refused_with_where_they_end(content, message):
    with pytest.raises(UnusableImageError, match=message) as caught:
        images.load_pixels(content)
    assert caught.value.code == "image_unreadable"


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_png_cut_anywhere_is_refused_or_gives_the_pixels_of_the_whole(mode):
    content = saved(noise(mode), "PNG")
    whole = images.load_pixels(content)
    taken = 0
    for place in {*png_boundaries(content), *range(8, len(content), 7)}:
        pixels = pixels_or_none(content[:place])
        if pixels is not None:
            np.testing.assert_array_equal(pixels, whole)
            taken += place < len(content) - 16
    assert not taken  # of what is cut, only the end chunk and the checksum before it may be missing


def test_any_changed_byte_of_the_pixels_is_refused():
    content = saved(noise(), "PNG")
    start = content.index(b"IDAT") + 4
    for place in range(start, len(content) - 16, 5):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        assert pixels_or_none(bytes(changed)) is None
        right_sum = zlib.crc32(changed[start - 4 : -16]).to_bytes(4, "big")
        assert pixels_or_none(bytes(changed[:-16]) + right_sum + END) is None


def test_only_the_default_picture_of_an_animation_is_decoded():
    frames = [noise().rotate(90 * number) for number in range(3)]
    content = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert b"acTL" in content
    np.testing.assert_array_equal(bytes_of(content), np.asarray(frames[0]))


@pytest.mark.parametrize("behind", [False, True])
def test_the_orientation_is_taken_from_the_exif_chunk(behind):
    picture = noise().resize((10, 6))
    turned = chunk(b"eXIf", exif(b"\x01\x12\0\3\0\0\0\1\0\6\0\0", 1)[10:])
    content = saved(picture, "PNG")
    content = content[:-12] + turned + content[-12:] if behind else inserted(content, turned)
    np.testing.assert_array_equal(bytes_of(content), np.asarray(picture.transpose(Image.Transpose.ROTATE_270)))


def test_the_orientation_is_never_taken_from_texts():
    picture = noise().resize((10, 6))
    text = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        b"<rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6'/></rdf:RDF></x:xmpmeta>"
    )
    raw = exif(b"\x01\x12\0\3\0\0\0\1\0\6\0\0", 1)[4:]
    texts = [
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text),
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n%8d\n" % len(raw) + raw.hex().encode()),
    ]
    np.testing.assert_array_equal(bytes_of(inserted(saved(picture, "PNG"), *texts)), np.asarray(picture))


def gamma(value):
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def primaries(points):
    return chunk(b"cHRM", struct.pack(">8I", *(round(each * 100_000) for point in points for each in point)))


def icc(profile):
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


STANDARD = chunk(b"sRGB", b"\0")
P3_POINTS = colour_space.DISPLAY_P3
ABSURD = ((0.3, 0.3),) * 4


def colours_with(*chunks, mode="RGB"):
    picture = noise(mode)
    return bytes_of(inserted(saved(picture, "PNG"), *chunks)), np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(
    "chunks",
    [
        [STANDARD],
        [gamma(0.45455)],
        [gamma(0.45455), primaries(colour_space.SRGB)],
        [gamma(0.4665)],
        [primaries(P3_POINTS)],
        [gamma(0)],
        [gamma(1000)],
        [chunk(b"gAMA", b"\1")],
        [STANDARD, gamma(1.0)],
        [STANDARD, gamma(1.0), primaries(P3_POINTS)],
        [chunk(b"cICP", bytes([1, 13, 0, 1]))],
        [chunk(b"cICP", bytes([1, 13, 0, 1])), icc(ADOBE_RGB)],
        [chunk(b"cICP", bytes([77, 13, 0, 1]))],
        [chunk(b"cICP", bytes([12, 13, 1, 1]))],
        [chunk(b"cICP", b"")],
        [icc(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())],
        [icc(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()), gamma(1.0)],
        [icc(grey_profile(1.0))],
        [chunk(b"iCCP", b"name\0\1" + zlib.compress(ADOBE_RGB))],
        [chunk(b"iCCP", b"name\0\0" + zlib.compress(ADOBE_RGB)[:-30])],
        [gamma(0.45455), primaries(ABSURD)],
    ],
)
def test_srgb_and_what_browsers_ignore_changes_no_pixel(chunks):
    found, plain = colours_with(*chunks)
    if chunks[-1] == primaries(ABSURD):
        assert np.abs(found.astype(int) - plain).max() < 10  # by the gamma alone, which is nearly that of sRGB
    else:
        np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize(
    ("chunks", "points", "exponent"),
    [
        ([gamma(1.0)], colour_space.SRGB, 1.0),
        ([gamma(0.55556)], colour_space.SRGB, 1.8),
        ([gamma(0.45455), primaries(P3_POINTS)], P3_POINTS, 2.2),
        ([primaries(P3_POINTS), gamma(0.45455)], P3_POINTS, 2.2),
        ([chunk(b"cICP", bytes([12, 4, 0, 1]))], P3_POINTS, 2.2),
        ([chunk(b"cICP", bytes([9, 8, 0, 1]))], colour_space.BT2020, 1.0),
        ([chunk(b"cICP", bytes([12, 4, 0, 1])), icc(ADOBE_RGB), STANDARD, gamma(1.0)], P3_POINTS, 2.2),
    ],
)
def test_colours_are_those_of_the_chunk_with_precedence(chunks, points, exponent):
    found, plain = colours_with(*chunks)
    expected = np.stack([by_definition(rgb, points, exponent) for rgb in plain.reshape(-1, 3)]).reshape(plain.shape)
    np.testing.assert_allclose(found, expected, atol=3)


@pytest.mark.parametrize(
    ("chunks", "profile"),
    [
        ([icc(ADOBE_RGB)], ADOBE_RGB),
        ([icc(ADOBE_RGB), STANDARD, gamma(1.0)], ADOBE_RGB),
        ([chunk(b"cICP", bytes([12, 13, 0, 1]))], DISPLAY_P3),
        ([chunk(b"cICP", bytes([1, 1, 0, 1]))], colour_space.profile_of(colour_space.SRGB, colour_space.BT709_CURVE)),
        ([chunk(b"cICP", bytes([77, 1, 0, 1])), icc(ADOBE_RGB)], ADOBE_RGB),
    ],
)
def test_profiles_and_code_points_are_applied(chunks, profile):
    found, plain = colours_with(*chunks)
    expected = np.asarray(colour.to_srgb(Image.fromarray(plain), profile))
    assert np.abs(expected.astype(int) - plain).max() > 5
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16", "1"])
def test_colours_of_every_mode_are_converted_before_they_are_blended_with_white(mode):
    picture = Image.fromarray(np.asarray(noise("L")).astype(np.uint16) * 257) if mode == "I;16" else noise(mode)
    if "A" in mode:
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    content = saved(picture, "PNG")
    plain, found = bytes_of(content).astype(float), bytes_of(inserted(content, gamma(1.0))).astype(float)
    alpha = np.asarray(picture.getchannel("A"), float)[..., None] / 255 if "A" in mode else 1.0
    colours = np.where(alpha > 0, (plain - 255 * (1 - alpha)) / np.maximum(alpha, 1e-9), 0).clip(0, 255) / 255
    encoded = np.where(colours <= 0.0031308, 12.92 * colours, 1.055 * colours ** (1 / 2.4) - 0.055)
    reliable = np.broadcast_to(alpha > 0.5, plain.shape)
    np.testing.assert_allclose(found[reliable], (255 * (encoded * alpha + 1 - alpha))[reliable], atol=14)
    assert np.abs(found - plain)[reliable].max() > 40 or mode == "1"


def test_a_grey_png_takes_a_grey_profile():
    found, plain = colours_with(icc(grey_profile(1.0)), mode="L")
    expected = np.asarray(colour.to_srgb(Image.fromarray(plain[..., 0]), grey_profile(1.0)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_a_high_dynamic_range_is_unsupported(transfer, name):
    with pytest.raises(UnusableImageError, match=f"got one with {name}; convert it to sRGB first") as caught:
        colours_with(chunk(b"cICP", bytes([9, transfer, 0, 1])))
    assert caught.value.code == "image_unsupported"


def test_bytes_of_uncompressed_pixels_are_limited():
    content = PNG + header(7000, 6000, 16, 6) + chunk(b"IDAT", b"") + END
    with pytest.raises(UnusableImageError, match="at most 268,435,456 bytes of uncompressed pixels") as caught:
        images.load_pixels(content)
    assert caught.value.code == "image_too_large"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_pixels_equal_those_of_pillow(mode):
    content = saved(noise(mode, side=300), "PNG")
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    if mode != "RGBA":
        np.testing.assert_array_equal(bytes_of(content), np.asarray(expected))
