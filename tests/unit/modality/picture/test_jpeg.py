"""A damaged JPEG is refused; a whole one is decoded, whatever its metadata and its end look like."""

import io

import numpy as np
import pytest
from PIL import Image

from buckler.errors import UnusableImageError
from buckler.modality.picture import images, jpeg, jpeg_file, uploads
from tests.picture_bytes import after_start, exif, noise, saved, segment

END = b"\xff\xd9"
KINDS = {
    "baseline": {"quality": 85},
    "baseline without subsampling": {"quality": 95, "subsampling": 0},
    "with restarts": {"quality": 85, "restart_marker_blocks": 3},
    "progressive": {"quality": 85, "progressive": True},
    "grey": {"mode": "L"},
    "progressive grey": {"mode": "L", "progressive": True},
    "CMYK": {"mode": "CMYK"},
}


def lesion(mode="RGB", width=96, height=80):
    """A picture with a dark middle, noise and no grey of 128."""
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    shade = np.clip(60 + 140 * np.hypot(x, y), 0, 255)
    colours = np.stack([shade, shade * 0.8, shade * 0.7], -1) + np.random.default_rng(0).normal(
        0, 6, (height, width, 3)
    )
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8)).convert(mode)


def written(kind, **changes):
    options = {**KINDS[kind], **changes}
    return saved(lesion(options.pop("mode", "RGB")), **options)


def refusal(content):
    with pytest.raises(UnusableImageError) as caught:
        images.load_pixels(content)
    assert caught.value.code == "image_unreadable"
    return str(caught.value)


def pixels_or_none(content):
    try:
        return images.load_pixels(content)
    except UnusableImageError as error:
        return None if error.code == "image_unreadable" else pytest.fail(f"another code: {error.code}")


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_equal_those_of_pillow(kind):
    content = written(kind)
    np.testing.assert_array_equal(
        images.load_pixels(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float32) / 255
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_only_lacks_its_end_marker_is_whole(kind, missing):
    content = written(kind)
    np.testing.assert_array_equal(images.load_pixels(content[:-missing]), images.load_pixels(content))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [b"", END, END + written("grey"), written("grey")])
def test_a_jpeg_cut_anywhere_is_refused_or_gives_the_pixels_of_the_whole(kind, end):
    content = written(kind)
    whole = images.load_pixels(content)
    data = content.index(b"\xff\xda")
    taken = 0
    for place in sorted({*range(data, len(content), 23), *range(len(content) - 24, len(content) - 1)}):
        pixels = pixels_or_none(content[:place] + end)
        if pixels is not None:
            np.testing.assert_array_equal(pixels, whole)
            taken += 1
    assert taken <= 12  # the last bytes may be padding


def scan_starts(content):
    return [place for place in range(len(content) - 1) if content[place : place + 2] in (b"\xff\xda", b"\xff\xc4")]


@pytest.mark.parametrize("end", [b"", END])
def test_a_progressive_jpeg_without_its_last_scans_is_refused(end):
    content = written("progressive")
    starts = [place for place in scan_starts(content) if place > content.index(b"\xff\xda")]
    assert len(starts) >= 9
    shares = []
    for place in starts:
        message = refusal(content[:place] + end)
        shares.append(int(message.split("passes: ")[1].split(" %")[0]))
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], 1 <= shares[-1] < 40) == (100, True)


def test_a_jpeg_without_the_scan_of_a_colour_is_refused():
    content = written("baseline", subsampling=0)
    header = content.index(b"\xff\xda")
    only_brightness = content[:header] + segment(0xDA, bytes([1, 1, 0, 0, 63, 0])) + content[header + 14 :]
    assert "without the data of 2 of its 3 colour components" in refusal(only_brightness)


@pytest.mark.parametrize("end", [b"", END])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_the_refusal_states_about_how_many_rows_are_missing(share, end):
    content = saved(lesion(width=256, height=1024), quality=90)
    start = content.index(b"\xff\xda")
    message = refusal(content[: start + int(share * (len(content) - start))] + end)
    assert " of 1,024 rows are missing; send the original file again" in message
    lost = int(message.split("about the last ")[1].split(" of ")[0])
    assert abs(lost / 1024 - (1 - share)) < 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("end", [b"", END])
def test_a_tail_of_zeros_is_refused(kind, share, end):
    content = written(kind)
    start = content.rindex(b"\xff\xda") + 14
    place = start + int(share * (len(content) - start))
    refusal(content[:place] + bytes(len(content) - place - len(end)) + end)


@pytest.mark.parametrize(("old", "new"), [(b"\n", b"\r\n"), (b"\r\n", b"\n"), (b"\r", b"\n"), (b"\r", b"")])
def test_a_transfer_in_text_mode_is_noticed(old, new):
    changed = 0
    for seed in range(12):
        picture = noise(side=96).rotate(seed)
        content = saved(picture, quality=80 + seed, progressive=bool(seed % 2))
        mangled = content.replace(old, new)
        if mangled == content:
            continue
        changed += 1
        if len(mangled) != len(content):
            assert pixels_or_none(mangled) is None
    assert changed


def test_a_wrong_order_of_restart_markers_is_refused():
    content = bytearray(written("with restarts"))
    place = next(n for n in range(content.index(b"\xff\xda"), len(content)) if content[n : n + 2] == b"\xff\xd3")
    content[place + 1] = 0xD6
    assert "damaged" in refusal(bytes(content))
    del content[place - 40 : place + 2]
    refusal(bytes(content))


def test_data_behind_the_end_do_not_matter():
    content = written("baseline")
    whole = images.load_pixels(content)
    for behind in (b"\0" * 512, b"\r\n", b"ftypmp42" + bytes(5000), content, content[: len(content) // 2]):
        np.testing.assert_array_equal(images.load_pixels(content + behind), whole)


@pytest.mark.parametrize(
    "inserted",
    [
        segment(0xE0, b"JFIF\0\x09\x09\0\0\1\0\1\0\0"),
        segment(0xE0, b"JFIF\0"),
        segment(0xE1, b"Exif\0\0MM"),
        segment(0xEE, b"Adobe"),
        segment(0xFE, b"\r\n comment"),
        3 * b"\xff",
        segment(0xE5) + bytes(20),
    ],
)
def test_flaws_of_metadata_do_not_matter(inserted):
    content = written("baseline")
    np.testing.assert_array_equal(images.load_pixels(after_start(inserted, content)), images.load_pixels(content))


def test_other_values_in_the_scan_of_a_baseline_jpeg_do_not_matter():
    # Samsung's phones write them.
    content = bytearray(written("baseline"))
    start = content.index(b"\xff\xda")
    content[start + 11 : start + 14] = bytes([0, 0, 0])
    np.testing.assert_array_equal(images.load_pixels(bytes(content)), images.load_pixels(written("baseline")))


def orientation(value):
    return exif(b"\x01\x12\0\3\0\0\0\1" + bytes([0, value, 0, 0]), 1)


XMP = (
    b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22"
    b"-rdf-syntax-ns#'><rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6'/></rdf:RDF>"
    b"</x:xmpmeta>"
)


@pytest.mark.parametrize(
    ("metadata", "upright"),
    [
        (orientation(6), (24, 40)),
        (orientation(1), (40, 24)),
        (segment(0xE1, XMP), (40, 24)),
        (orientation(1) + segment(0xE1, XMP), (40, 24)),
        (segment(0xE1, XMP) + orientation(8), (24, 40)),
        (segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff") + segment(0xE1, XMP), (40, 24)),
    ],
)
def test_the_orientation_is_taken_from_exif_and_never_from_xmp(metadata, upright):
    content = after_start(metadata, saved(lesion(width=40, height=24)))
    info = images.inspect(content)
    assert (info.width, info.height) == upright
    assert images.load_pixels(content).shape == (upright[1], upright[0], 3)


@pytest.mark.parametrize(("transform", "expected"), [(None, "YCbCr"), (jpeg.YCBCR, "YCbCr"), (jpeg.RGB, "RGB")])
def test_stored_colours_that_are_known_from_elsewhere_come_before_the_marks_of_the_file(transform, expected):
    content = written("baseline without subsampling")
    stored = Image.open(io.BytesIO(content))
    if expected == "RGB":
        stored.draft("YCbCr", stored.size)
    found = jpeg.decode_pixels(jpeg_file.read(content), transform=transform)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(stored))


def test_the_structure_states_what_a_dicom_file_must_agree_with():
    file = jpeg_file.read(written("progressive"))
    assert (file.width, file.height, file.frame, file.precision) == (96, 80, 0xC2, 8)
    assert (file.components, file.sampling) == ((1, 2, 3), ((2, 2), (1, 1), (1, 1)))
    assert (file.jfif, file.adobe, file.has_end) == (True, None, True)
    assert jpeg_file.read(written("CMYK")).adobe == 0
    assert not jpeg_file.read(written("grey")[:-2]).has_end


def test_a_jpeg_of_twelve_bits_is_unsupported_and_named():
    content = bytearray(written("baseline"))
    content[content.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(UnusableImageError, match="got 12 bits and 3; convert it first") as caught:
        images.load_pixels(bytes(content))
    assert caught.value.code == "image_unsupported"


def test_scans_are_counted_up_to_the_end_of_the_picture():
    baseline, progressive = written("baseline"), written("progressive")
    assert jpeg_file.read(baseline).scans == 1
    assert jpeg_file.read(progressive).scans == progressive.count(b"\xff\xda")
    assert jpeg_file.read(after_start(segment(0xE1, b"Exif\0\0" + baseline), baseline)).scans == 1
    assert jpeg_file.read(baseline + 1000 * progressive).scans == 1


def stated(content, width, height):
    """The structure of a JPEG whose header states other sides."""
    file = jpeg_file.read(content)
    file.width, file.height = width, height
    return file


@pytest.mark.parametrize(
    ("sides", "size", "scale"),
    [
        ((4032, 3024), 224, 1),
        ((4080, 3072), 224, 1),  # the largest ordinary pictures
        ((6000, 4000), 224, 2),
        ((8160, 6144), 224, 2),
        ((8192, 6144), 224, 2),
        ((8000, 8000), 224, 4),
        ((8000, 8000), 1000, 4),
        ((8000, 8000), 1001, 2),
        ((8000, 8000), 3000, 1),
        ((8000, 8000), None, 1),
        ((60_000, 900), 224, 2),
        ((60_000, 800), 224, 1),
    ],
)
def test_only_large_pictures_are_scaled_down_and_no_side_below_twice_the_target(sides, size, scale):
    assert jpeg._scale(stated(written("baseline"), *sides), size) == scale


def test_a_large_picture_gives_the_pixels_that_the_whole_one_gives_and_its_sides():
    content = saved(lesion(width=505, height=377).resize((4600, 3450), Image.Resampling.BICUBIC), quality=90)
    upload = uploads.load(content, size=224, shown=512)
    assert (upload.width, upload.height, upload.shown.size) == (4600, 3450, (512, 384))
    whole = images.as_pixels(images.load_image(content), size=224)
    np.testing.assert_allclose(upload.values, whole, atol=2 / 255)
    np.testing.assert_array_equal(images.load_pixels(content, size=224), upload.values)
    assert (images.inspect(content).width, images.load_image(content).width) == (4600, 4600)


def test_a_large_picture_lies_upright_and_damage_in_it_is_noticed():
    content = after_start(orientation(6), saved(Image.new("RGB", (4600, 3450), (180, 120, 100))))
    upload = uploads.load(content, size=224)
    assert (upload.width, upload.height) == (3450, 4600)
    with pytest.raises(UnusableImageError, match=r"about the last [\d,]+ of 3,450 rows are missing"):
        uploads.load(content[: len(content) // 2], size=224)
