"""Files are recognised by their content; what is not decoded is refused by its name, with what to do."""

import gzip
import io
import re
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import formats, iso_media, tiff_header
from tests.absent import absent
from tests.unit.modality.picture.heic_files import heic

ROOT = Path(__file__).parents[4]


def refusal(content: bytes) -> UnusableImageError:
    with pytest.raises(UnusableImageError) as caught:
        formats.format_of(content)
    return caught.value


def saved(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 16), "red").save(file, kind, **options)
    return file.getvalue()


def ftyp(*brands: str) -> bytes:
    """Return a file type box with its major brand and its compatible ones, and what may follow it."""
    names = [brand.encode().ljust(4) for brand in brands]
    return (
        (16 + 4 * len(names[1:])).to_bytes(4, "big") + b"ftyp" + names[0] + bytes(4) + b"".join(names[1:]) + bytes(64)
    )


def tiff(*tags: tuple[int, int, int], order: str = "little", texts: dict[int, bytes] | None = None) -> bytes:
    """Return a TIFF without pixels: tag, type and value of its entries, and texts by tag."""
    texts = texts or {}
    count = len(tags) + len(texts)
    place = 8 + 2 + 12 * count + 4
    entries = [
        (tag, kind, 1, value.to_bytes(2 if kind == 3 else 4, order).ljust(4, b"\0")) for tag, kind, value in tags
    ]
    tail = b""
    for tag, text in texts.items():
        entries.append((tag, 2, len(text), (place + len(tail)).to_bytes(4, order)))
        tail += text
    head = (b"II*\0" if order == "little" else b"MM\0*") + (8).to_bytes(4, order) + count.to_bytes(2, order)
    body = b"".join(
        tag.to_bytes(2, order) + kind.to_bytes(2, order) + number.to_bytes(4, order) + value
        for tag, kind, number, value in sorted(entries)
    )
    return head + body + bytes(4) + tail


PREVIEW, SUB_DIRECTORY, MAKE = (254, 4, 1), (330, 4, 8), 271


def archive(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name in names:
            opened.writestr(name, b"content")
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (saved("JPEG"), "JPEG"),
        (saved("PNG"), "PNG"),
        (saved("WEBP"), "WebP"),
        (saved("AVIF"), "AVIF"),
        (saved("TIFF"), "TIFF"),
        (saved("BMP"), "BMP"),
        (heic(), "HEIC"),
        (ftyp("heix", "mif1"), "HEIC"),
        (ftyp("mif1", "miaf", "MiHB", "heic"), "HEIC"),
        (ftyp("mif1"), "HEIC"),
        (ftyp("msf1", "hevc", "mif1"), "HEIC"),
        (ftyp("mif1", "avif", "miaf"), "AVIF"),
        (ftyp("avis", "avif", "msf1", "mif1"), "AVIF"),
        (tiff((256, 4, 1), order="big"), "TIFF"),
        (tiff((256, 4, 1), texts={MAKE: b"NIKON CORPORATION\0"}), "TIFF"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM"),
        (b"II*\0" + bytes(124) + b"DICM", "DICOM"),
        (b"DICM\2\0\0\0UL\4\0", "DICOM"),
        (b"\2\0\0\0UL\4\0\xc0\0\0\0\2\0\1\0OB\0\0", "DICOM"),
        (bytes(128) + b"\2\0\0\0UL\4\0\xc0\0\0\0", "DICOM"),
        (b"\x08\0\x05\0CS\n\0ISO_IR 100", "DICOM"),
        (b"\x08\0\x05\0\n\0\0\0ISO_IR 100\x08\0\x08\0\4\0\0\0A\\B ", "DICOM"),
        (b"\0\x08\0\x05CS\0\nISO_IR 100", "DICOM"),
    ],
)
def test_a_picture_is_recognised(content: bytes, name: str):
    assert formats.format_of(content) == name


@pytest.mark.parametrize(
    ("content", "name", "do"),
    [
        (ftyp("isom", "iso2", "avc1", "mp41"), "an MP4 video", "send a still picture"),
        (ftyp("mp42", "mif1", "heic"), "an MP4 video", "send a still picture"),
        (ftyp("qt"), "a QuickTime video (MOV)", "send a still picture"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "a QuickTime video (MOV)", "send a still picture"),
        (ftyp("3gp5", "isom"), "a 3GP video", "send a still picture"),
        (ftyp("zzzz"), "a video", "send a still picture"),
        (ftyp("M4A "), "a sound recording (M4A)", "send the picture's file"),
        (ftyp("crx ", "crx ", "isom"), "a Canon CR3 raw picture", "export it as JPEG"),
        (ftyp("jpeg", "mif1"), "a HEIF picture coded as JPEG", "convert it to JPEG or PNG"),
        (ftyp("avci", "mif1"), "a HEIF picture coded as H.264", "convert it to JPEG or PNG"),
        (saved("JPEG2000"), "a JPEG 2000 picture", "convert it to JPEG or PNG"),
        (saved("JPEG2000", no_jp2=True), "a JPEG 2000 picture", "convert it to JPEG or PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", "convert it to JPEG or PNG"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL picture", "convert it to JPEG or PNG"),
        (b"\xff\xd8\xff\xf7\0\x0b", "a JPEG-LS picture", "convert it to JPEG or PNG"),
        (b"8BPS\0\1", "a Photoshop file (PSD)", "export it as JPEG"),
        (saved("GIF"), "a GIF", "convert it to PNG"),
        (saved("ICO"), "an icon (ICO)", "send the picture's file"),
        (saved("PPM"), "a PNM picture", "convert it to PNG"),
        (b"II*\0\x10\0\0\0CR\2\0", "a Canon CR2 raw picture", "export it as JPEG"),
        (tiff((50706, 1, 1)), "an Adobe DNG raw picture", "export it as JPEG"),
        (tiff(PREVIEW, SUB_DIRECTORY, texts={MAKE: b"NIKON CORPORATION\0"}), "a Nikon NEF raw picture", "export it"),
        (tiff(PREVIEW, SUB_DIRECTORY, order="big", texts={MAKE: b"NIKON\0"}), "a Nikon NEF raw picture", "export it"),
        (tiff(PREVIEW, SUB_DIRECTORY, texts={MAKE: b"SONY\0"}), "a Sony ARW raw picture", "export it as JPEG"),
        (tiff((262, 3, 32803), texts={MAKE: b"Unheard Of\0"}), "a camera's raw picture", "export it as JPEG"),
        (b"FUJIFILMCCD-RAW 0201", "a Fujifilm RAF raw picture", "export it as JPEG"),
        (b"II+\0\x08\0", "a BigTIFF", "convert it to TIFF"),
        (b"%PDF-1.7", "a PDF", "export the picture in it as JPEG or PNG"),
        (archive("picture.jpg"), "a ZIP archive", "unpack it"),
        (
            archive("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
            "a Word document",
            "save the picture in it",
        ),
        (archive("xl/workbook.xml"), "an Excel workbook", "save the picture in it"),
        (gzip.compress(b"text"), "a gzip file", "unpack it"),
        (gzip.compress(bytes(344) + b"n+1\0" + bytes(200)), "a NIfTI volume (compressed)", "export one slice"),
        (gzip.compress(bytes(100_000_000))[:2000], "a gzip file", "unpack it"),
        (bytes(344) + b"n+1\0", "a NIfTI volume", "export one slice as DICOM or PNG"),
        (b"NRRD0004\n", "an NRRD volume", "export one slice"),
        (b"ObjectType = Image\nNDims = 3\n", "a MetaImage volume (MHA)", "export one slice"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "export the picture in it as PNG"),
        (array(), "a NumPy array", "save it as PNG"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI video", "send a still picture"),
        (b"\x1aE\xdf\xa3", "a Matroska or WebM video", "send a still picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing", "export it as PNG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", "an SVG drawing", "export it as PNG"),
        (b"\n<!DOCTYPE html><title>Login</title>", "an HTML page", "the page may ask for a login"),
        (b"<?xml version='1.0'?><Bundle/>", "XML", "send the picture's file"),
        (b'{"image": 1}', "JSON", "send the picture's file"),
        (b"Jane Roe, born in 1970", "a text", "send the picture's file"),
        (b"BMI of Jane Roe: 21", "a text", "send the picture's file"),
        ("Müller".encode(), "a text", "send the picture's file"),
        ("Roe".encode("utf-16"), "a text", "send the picture's file"),
        (b"/9j/4AAQSkZJRg==", "a JPEG as base64 text", "decode it first"),
        (b"data:image/png;base64,iVBORw0KGgo=", "a picture as a data URL", "decode its base64 part"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "what macOS keeps beside a file", "without `._`"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"),
        (b"\0\1\2\3\4\5\6\7", "an unknown file", "send the picture's file"),
    ],
)
def test_another_file_is_refused_by_its_name_with_what_to_do(content: bytes, name: str, do: str):
    error = refusal(content)
    assert error.code is ErrorCode.IMAGE_UNSUPPORTED
    assert f", got {name}; " in str(error)
    assert do in str(error).partition("; ")[2]
    assert "Roe" not in str(error)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (saved("PNG").replace(b"\r\n", b"\n", 1), "a PNG that a transfer as text has damaged"),
        (saved("PNG").replace(b"\n", b"\r\n"), "a PNG that a transfer as text has damaged"),
        (saved("PNG").decode("latin-1").encode(), "a PNG that a transfer as text has damaged"),
        (saved("JPEG").decode("utf-8", "replace").encode(), "a file that a transfer as text has damaged"),
        (saved("JPEG").decode("latin-1").encode(), "a file that a transfer as text has damaged"),
        (bytes(5000), "a file of zeros, which was never written"),
    ],
)
def test_a_picture_that_has_lost_its_first_bytes_is_unreadable(content: bytes, name: str):
    error = refusal(content)
    assert error.code is ErrorCode.IMAGE_UNREADABLE
    assert f"got {name}; send the file again" in str(error)


def test_no_bytes_are_no_picture():
    assert refusal(b"").code is ErrorCode.IMAGE_EMPTY


def test_the_list_names_every_format():
    assert re.findall(r"\w+", formats.LISTED.replace(" or ", " ")) == list(formats.FORMATS)


@pytest.mark.parametrize("length", range(48))
@pytest.mark.parametrize("whole", [heic(), saved("TIFF"), tiff(PREVIEW, SUB_DIRECTORY), b"\x08\0\x05\0\n\0\0\0ISO_IR"])
def test_the_first_bytes_alone_are_recognised_or_refused(whole: bytes, length: int):
    with suppress(UnusableImageError):
        assert formats.format_of(whole[:length]) in formats.FORMATS


def test_a_directory_that_points_anywhere_is_read_without_end_or_error():
    circle = tiff((256, 4, 1))
    circle = circle[:-4] + (8).to_bytes(4, "little")
    assert tiff_header.pages(circle) == 1
    assert tiff_header.raw_name(b"II*\0\xff\xff\xff\xff") is None
    assert tiff_header.first_directory(b"II*\0\x08\0\0\0\xff\xff" + b"\1\1\4\0\xff\xff\xff\xff\xff\xff\xff\xff") == {}


def test_a_box_that_claims_many_brands_is_read_up_to_a_limit():
    assert len(iso_media.brands(b"\x7f\xff\xff\xffftypmif1" + bytes(10_000_000))) == 65


def case(real_data: Path, name: str) -> bytes:
    """Return a file that failed once, which is kept beside the real pictures."""
    file = real_data.parent / "cases/files" / name
    if not file.exists():
        absent(f"no case at {file}")
    return file.read_bytes()


def test_a_case_of_a_video_is_called_a_video(real_data: Path):
    assert "got an MP4 video; send a still picture" in str(refusal(case(real_data, "F17-misnamed/input.mp4")))


def test_a_case_without_preamble_is_dicom(real_data: Path):
    assert formats.format_of(case(real_data, "F09-no-preamble/input.dcm")) == "DICOM"


@pytest.mark.parametrize(
    "document",
    [
        "src/buckler/error_codes.py",
        "src/buckler/client/service.py",
        "services/console/templates/picture.html",
        "docs/how-to/own-pictures.md",
        "docs/how-to/use-the-service.md",
        "docs/reference/cli.md",
        "docs/reference/answers.md",
    ],
)
def test_every_text_that_lists_the_formats_lists_these(document: str):
    text = " ".join((ROOT / document).read_text(encoding="utf-8").split())
    assert formats.LISTED in text
    assert not re.search(r"JPEG, (a )?PNG or (a )?DICOM|JPEG (and|or) PNG only", text)
