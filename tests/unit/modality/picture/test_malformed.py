"""Broken, inconsistent and hostile files: the decoder returns pixels or an error, quickly and in little memory."""

import functools
import gc
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from buckler.errors import UnusableImageError
from buckler.modality.picture import decode_budget, images, rgb
from tests import heavy_pictures, malformed, picture_bytes

CORPUS = malformed.corpus()
CODES = {"image_empty", "image_unreadable", "image_unsupported", "image_too_large"}
PLATFORM_KEEPS_PEAKS = Path("/proc/self/clear_refs").exists()

# Pillow warns about metadata that it ignores; the service ignores these warnings.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


def decode(content: bytes) -> str:
    """Return ``pixels``, or the code of the error; any other exception fails the test."""
    try:
        pixels = images.load_pixels(content, size=32)
    except UnusableImageError as error:
        return code_of(error)
    assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.float32)
    assert 0 <= pixels.min() <= pixels.max() <= 1
    return "pixels"


def code_of(error: UnusableImageError) -> str:
    assert str(error).startswith("expected ")
    assert "Muster" not in str(error)
    return error.code


def test_the_corpus_is_large_and_varied():
    assert len(set(CORPUS.values())) >= 400
    assert {decode(content) for content in CORPUS.values()} == {*CODES, "pixels"}


@pytest.mark.parametrize("name", CORPUS)
def test_inspection_and_decoding_agree(name: str):
    code = "pixels"
    try:
        images.inspect(CORPUS[name])
    except UnusableImageError as error:
        code = code_of(error)
    assert decode(CORPUS[name]) == code


def timed_decode(content: bytes) -> tuple[str, float]:
    """Return the outcome and the decoder's own processor seconds: no garbage collection, no other thread."""
    gc.disable()
    started = time.thread_time()
    try:
        return decode(content), time.thread_time() - started
    finally:
        gc.enable()


@pytest.mark.parametrize("name", CORPUS)
def test_every_file_becomes_pixels_or_an_error_within_a_second(name: str):
    result, seconds = timed_decode(CORPUS[name])
    assert seconds < 1
    assert result in {*CODES, "pixels"}
    if name.endswith("named .jpg"):
        assert (result == "pixels") == name.startswith(("TIFF", "WEBP", "BMP"))
    if " cut at " in name:
        # The end of a PNG and the last marker of a JPEG do not affect the pixels.
        assert result != "pixels" or len(CORPUS[name]) > 0.9 * len(picture_bytes.saved(picture_bytes.noise()))
    if name.startswith("whole"):
        assert result == "pixels"


@functools.cache
def heavy(name: str) -> tuple[str, float, int]:
    """Decode a heavy file once for all tests; return the outcome, the decoder's seconds and its MB."""
    content = heavy_pictures.HEAVY[name]()
    before = forget_peak()
    return *timed_decode(content), memory("VmHWM") - before


@pytest.mark.parametrize("name", heavy_pictures.HEAVY)
def test_a_heavy_file_costs_little_time_and_memory(name: str):
    outcome, seconds, megabytes = heavy(name)
    assert outcome in {*CODES, "pixels"}
    assert seconds < 15
    if PLATFORM_KEEPS_PEAKS:
        assert megabytes < (200 if name.startswith("ordinary") else 600)  # as docs/how-to/use-the-service.md says


def forget_peak() -> int:
    """Reset the peak of the memory in use, and return the memory in use, in MB."""
    if PLATFORM_KEEPS_PEAKS:
        Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(kind: str) -> int:
    """Return a field of /proc/self/status, in MB."""
    status = Path("/proc/self/status")
    return int(re.findall(rf"{kind}:\s+(\d+)", status.read_text())[0]) // 1024 if status.exists() else 0


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("jpeg of 2,400,000 segments", "image_unreadable"),
        ("jpeg with 10 MB of fill bytes", "pixels"),
        ("jpeg with 10 MB of junk", "image_unreadable"),
        ("png of 800,000 chunks", "image_unreadable"),
        ("jpeg of 200 passes over 64 megapixels", "image_unreadable"),
        ("png of 169 megapixels", "image_too_large"),
        ("png of one pixel by fifty million", "image_too_large"),
        ("jpeg of 65535 x 65535", "image_too_large"),
    ],
)
def test_costly_files_cost_no_time(name: str, code: str):
    outcome, seconds, _ = heavy(name)
    assert outcome == code
    assert seconds < 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GIF named .jpg", "got a GIF; convert it to PNG"),
        ("text with a name named .jpg", "got a text; send the picture's file"),
        ("HEIF named .jpg", "expected a complete HEIC picture"),
    ],
)
def test_the_error_names_the_format_and_does_not_quote_the_file(name: str, message: str):
    with pytest.raises(UnusableImageError, match=message):
        images.load_pixels(CORPUS[name])


def test_chunks_are_counted_up_to_the_end_of_the_picture():
    chunks = decode_budget.MAX_PARTS * picture_bytes.chunk(b"tEXt")
    assert decode(picture_bytes.png() + chunks) == "pixels"
    with pytest.raises(UnusableImageError, match="at most 20,000 parts"):
        images.load_pixels(picture_bytes.png(chunks))


@pytest.mark.parametrize(
    "mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16", "palette with transparency", "RGB with a key"]
)
def test_conversion_in_strips_equals_conversion_of_the_whole_picture(mode: str, monkeypatch: pytest.MonkeyPatch):
    picture = picture_bytes.noise("L" if mode == "I;16" else mode.split()[0].replace("palette", "P"), side=50)
    picture = picture.convert("I;16") if mode == "I;16" else picture
    options = {"transparency": 7} if "palette" in mode else {"transparency": (1, 2, 3)} if "key" in mode else {}
    content = picture_bytes.saved(picture, "JPEG" if mode == "CMYK" else "PNG", **options)
    whole = images.load_pixels(content)
    monkeypatch.setattr(rgb, "_STRIP_PIXELS", 7 * 50)
    np.testing.assert_array_equal(images.load_pixels(content), whole)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a JPEG or PNG after a few cuts, insertions, repetitions and flips."""
    mode = draw(st.sampled_from(["RGB", "L", "P", "CMYK"]))
    kind = "JPEG" if mode in ("CMYK",) or (mode != "P" and draw(st.booleans())) else "PNG"
    options = {"progressive": draw(st.booleans())} if kind == "JPEG" else {}
    content = bytearray(picture_bytes.saved(picture_bytes.noise(mode), kind, **options))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(2, len(content) - 1))
        match draw(st.sampled_from(["flip", "cut", "insert", "repeat", "number"])):
            case "flip":
                content[place] ^= draw(st.integers(1, 255))
            case "cut":
                del content[place : place + draw(st.integers(1, 64))]
            case "insert":
                content[place:place] = draw(st.binary(min_size=1, max_size=64))
            case "repeat":
                content[place:place] = content[place : place + draw(st.integers(1, 256))]
            case "number":
                content[place : place + 4] = draw(st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff"]))
        if len(content) < 8:
            break
    return bytes(content)


@settings(max_examples=400, deadline=2000)
@given(damaged())
def test_damaged_files_raise_no_other_exception(content: bytes):
    assert decode(content) in {*CODES, "pixels"}


@settings(max_examples=200, deadline=2000)
@given(
    st.sampled_from([b"\xff\xd8\xff", picture_bytes.PNG, picture_bytes.PNG + picture_bytes.header(9, 9)]),
    st.binary(max_size=2000),
)
def test_random_bytes_after_a_signature_raise_no_other_exception(signature: bytes, rest: bytes):
    assert decode(signature + rest) in {*CODES, "pixels"}


def test_the_exif_orientation_swaps_the_sides():
    upright = Image.open(io.BytesIO(picture_bytes.saved(Image.new("RGB", (8, 4)))))
    assert upright.size == (8, 4)
    tag = Image.Exif()
    tag[0x0112] = 6
    turned = picture_bytes.saved(Image.new("RGB", (8, 4)), exif=tag)
    assert images.load_pixels(turned).shape == (8, 4, 3)
