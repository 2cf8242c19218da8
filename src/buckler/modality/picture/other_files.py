"""Names files that are not decoded, for error messages: by their content, never by their name, and never quoting them.

A person who sent the wrong file learns which one it was and what to do.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Final

from buckler.error_codes import ErrorCode
from buckler.modality.picture import iso_media, tiff_header

_CONVERT = "convert it to JPEG or PNG"
_EXPORT = "export it as JPEG"
_STILL = "send a still picture"
_PICTURE = "send the picture's file"
_UNPACK = "unpack it and send the picture in it"
_SLICE = "export one slice as DICOM or PNG"
_AGAIN = "send the file again"


@dataclass(frozen=True, slots=True)
class OtherFile:
    """A file that is not decoded.

    Attributes:
        name: What it is, with its article.
        do: What its sender can do, in the imperative.
        code: ``image_unreadable`` if the file is a damaged picture, else ``image_unsupported``.
    """

    name: str
    do: str
    code: ErrorCode = ErrorCode.IMAGE_UNSUPPORTED


_SIGNATURES: Final[tuple[tuple[int, bytes, str, str], ...]] = (
    # pictures
    (0, b"GIF8", "a GIF", "convert it to PNG"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture", _CONVERT),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _CONVERT),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", _CONVERT),
    (0, b"\xff\x0a", "a JPEG XL picture", _CONVERT),
    (0, b"\xff\xd8\xff\xf7", "a JPEG-LS picture", _CONVERT),
    (0, b"II\xbc\x01", "a JPEG XR picture", _CONVERT),
    (0, b"8BPS", "a Photoshop file (PSD)", _EXPORT),
    (0, b"gimp xcf", "a GIMP file (XCF)", _EXPORT),
    (0, b"\0\0\1\0", "an icon (ICO)", _PICTURE),
    (0, b"\0\0\2\0", "a cursor (CUR)", _PICTURE),
    (0, b"icns", "an icon (ICNS)", _PICTURE),
    (0, b"\x8aMNG", "an MNG animation", _STILL),
    (0, b"\x8bJNG", "a JNG picture", _CONVERT),
    (0, b"v/1\x01", "an OpenEXR picture", _CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR picture", _CONVERT),
    (0, b"SIMPLE  =", "a FITS picture", _CONVERT),
    (0, b"qoif", "a QOI picture", _CONVERT),
    (0, b"BPG\xfb", "a BPG picture", _CONVERT),
    (0, b"DDS ", "a DirectDraw texture (DDS)", _CONVERT),
    (0, b"\n\5\1\x08", "a PCX picture", _CONVERT),
    (0, b"\1\xda", "an SGI picture", _CONVERT),
    (0, b"AT&TFORM", "a DjVu document", _EXPORT),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)", _EXPORT),
    # raw pictures that have no TIFF signature
    (0, b"IIRO", "an Olympus ORF raw picture", _EXPORT),
    (0, b"IIRS", "an Olympus ORF raw picture", _EXPORT),
    (0, b"MMOR", "an Olympus ORF raw picture", _EXPORT),
    (0, b"IIU\0", "a Panasonic RW2 raw picture", _EXPORT),
    (0, b"FUJIFILMCCD-RAW", "a Fujifilm RAF raw picture", _EXPORT),
    (0, b"II\x1a\0\0\0HEAPCCDR", "a Canon CRW raw picture", _EXPORT),
    (0, b"FOVb", "a Sigma X3F raw picture", _EXPORT),
    (0, b"\0MRM", "a Minolta MRW raw picture", _EXPORT),
    (0, b"II+\0", "a BigTIFF", "convert it to TIFF, JPEG or PNG"),
    (0, b"MM\0+", "a BigTIFF", "convert it to TIFF, JPEG or PNG"),
    # videos and sound
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video", _STILL),
    (8, b"AVI ", "an AVI video", _STILL),
    (8, b"WAVE", "a sound recording (WAV)", _PICTURE),
    (0, b"\0\0\1\xba", "an MPEG video", _STILL),
    (0, b"\0\0\1\xb3", "an MPEG video", _STILL),
    (0, b"FLV\1", "a Flash video", _STILL),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a Windows Media video", _STILL),
    (0, b"OggS", "an Ogg recording", _PICTURE),
    (0, b"ID3", "a sound recording (MP3)", _PICTURE),
    *((4, box, "a QuickTime video (MOV)", _STILL) for box in (b"moov", b"mdat", b"wide", b"pnot")),
    # volumes and arrays
    (344, b"n+1\0", "a NIfTI volume", _SLICE),
    (344, b"ni1\0", "a NIfTI header", _SLICE),
    (4, b"n+2\0\r\n\x1a\n", "a NIfTI volume", _SLICE),
    (4, b"ni2\0\r\n\x1a\n", "a NIfTI header", _SLICE),
    (0, b"NRRD000", "an NRRD volume", _SLICE),
    (0, b"ObjectType", "a MetaImage volume (MHA)", _SLICE),
    (0, b"NDims", "a MetaImage volume (MHA)", _SLICE),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", "export the picture in it as PNG"),
    (0, b"CDF\1", "a NetCDF file", "export the picture in it as PNG"),
    (0, b"CDF\2", "a NetCDF file", "export the picture in it as PNG"),
    (0, b"\x93NUMPY", "a NumPy array", "save it as PNG"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file", "export the picture in it as PNG"),
    # documents and archives
    (0, b"%PDF", "a PDF", "export the picture in it as JPEG or PNG"),
    (0, b"%!PS", "a PostScript file", _EXPORT),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file (EPS)", _EXPORT),
    (0, b"{\\rtf", "an RTF document", "save the picture in it as JPEG or PNG"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document or a thumbnail database", _PICTURE),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"7z\xbc\xaf'\x1c", "a 7z archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"BZh", "a bzip2 file", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz file", _UNPACK),
    (0, b"(\xb5/\xfd", "a zstd file", _UNPACK),
    # files that lie about in folders
    (0, b"\0\5\x16\7", "what macOS keeps beside a file", "send the file of the same name without `._`"),
    (0, b"\0\0\0\1Bud1", "macOS's note about a folder (.DS_Store)", _PICTURE),
    (0, b"L\0\0\0\1\x14\2\0", "a Windows shortcut", "send the file that it points to"),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "fetch the file with `git lfs pull`"),
    (0, b"SQLite format 3\0", "a database", _PICTURE),
    (0, b"\x7fELF", "a program", _PICTURE),
    (0, b"MZ", "a program", _PICTURE),
    # pictures in text
    (0, b"/9j/", "a JPEG as base64 text", "decode it first"),
    (0, b"iVBORw0KGgo", "a PNG as base64 text", "decode it first"),
    (0, b"data:image/", "a picture as a data URL", "decode its base64 part first"),
)
"""Place, bytes, name, what to do. The first that fits is taken."""

_ARCHIVES: Final = (
    (b"word/", "a Word document", "save the picture in it as JPEG or PNG"),
    (b"xl/", "an Excel workbook", "save the picture in it as JPEG or PNG"),
    (b"ppt/", "a PowerPoint presentation", "save the picture in it as JPEG or PNG"),
    (b"mimetypeapplication/vnd.oasis.opendocument", "an OpenDocument file", "save the picture in it as JPEG or PNG"),
    (b"mimetypeapplication/epub", "an e-book", _PICTURE),
    (b".npy", "a NumPy archive (NPZ)", "save the array as PNG"),
)
_MANGLED_PNG = re.compile(rb"\x89?PNG[\r\n]{1,3}\x1a?[\r\n]|\x09PNG\r\n\x1a\n|\xef\xbf\xbdPNG|\xc2\x89PNG")
_MANGLED_JPEG = re.compile(rb"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|\xc3\xbf\xc3\x98\xc3\xbf")
_PNM = re.compile(rb"P[1-7fF]\s[\d#\s]|P7\nWIDTH")
_LOOKED_AT: Final = 4096
_BINARY: Final = bytes({*range(32)} - set(b"\t\n\r\f\x1b"))
_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def other_file(content: bytes) -> OtherFile:
    """Return what ``content`` is, which no decoder takes."""
    for place, magic, name, do in _SIGNATURES:
        if content.startswith(magic, place):
            return OtherFile(name, do)
    for find in (_iso_media, _raw, _zip, _gzip, _damaged, _text):
        found = find(content)
        if found:
            return found
    return OtherFile("an unknown file", _PICTURE)


def _iso_media(content: bytes) -> OtherFile | None:
    name = iso_media.other_name(content)
    if name is None:
        return None
    do = _EXPORT if "raw" in name else _CONVERT if "picture" in name else _PICTURE if "sound" in name else _STILL
    return OtherFile(_with_article(name), do)


def _raw(content: bytes) -> OtherFile | None:
    name = tiff_header.raw_name(content)
    return OtherFile(_with_article(f"{name} raw picture"), _EXPORT) if name else None


def _with_article(name: str) -> str:
    return f"an {name}" if name.startswith(("A", "E", "MP4")) else f"a {name}"


def _zip(content: bytes) -> OtherFile | None:
    if content[:4] not in (b"PK\3\4", b"PK\5\6", b"PK\7\x08"):
        return None
    names = content[:_LOOKED_AT] + content[-_LOOKED_AT:]  # the first file's name, and the table at the end
    known = (OtherFile(name, do) for mark, name, do in _ARCHIVES if mark in names)
    return next(known, OtherFile("a ZIP archive", _UNPACK))


def _gzip(content: bytes) -> OtherFile | None:
    if not content.startswith(b"\x1f\x8b"):
        return None
    try:
        start = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content[:_LOOKED_AT], 512)
    except zlib.error:
        start = b""
    volume = start.startswith(b"n+", 344) or start.startswith(b"n+", 4)
    return OtherFile("a NIfTI volume (compressed)", _SLICE) if volume else OtherFile("a gzip file", _UNPACK)


def _damaged(content: bytes) -> OtherFile | None:
    """Return a picture whose first bytes a transfer has changed, or a file of zeros."""
    binary = "send the file again, and transfer it in binary mode"
    if _MANGLED_PNG.match(content):
        return OtherFile("a PNG that a transfer as text has damaged", binary, ErrorCode.IMAGE_UNREADABLE)
    if _MANGLED_JPEG.match(content):
        return OtherFile("a file that a transfer as text has damaged", binary, ErrorCode.IMAGE_UNREADABLE)
    if not content.strip(b"\0"):
        return OtherFile("a file of zeros, which was never written", _AGAIN, ErrorCode.IMAGE_UNREADABLE)
    return None


def _text(content: bytes) -> OtherFile | None:
    if _PNM.match(content):
        return OtherFile("a PNM picture", "convert it to PNG")
    start = content[:_LOOKED_AT]
    if start.startswith(_MARKS[1:]):
        return OtherFile("a text", _PICTURE)
    start = start.removeprefix(_MARKS[0]).lstrip()
    if any(byte in _BINARY for byte in start):
        return None
    if start.startswith(b"<"):
        return _markup(start.lower())
    return OtherFile("JSON" if start[:1] in (b"{", b"[") else "a text", _PICTURE)


def _markup(start: bytes) -> OtherFile:
    if b"<svg" in start:
        return OtherFile("an SVG drawing", "export it as PNG")
    if start.startswith((b"<!doctype html", b"<html")) or b"<html" in start:
        return OtherFile("an HTML page", "download the picture itself: the page may ask for a login")
    return OtherFile("XML", _PICTURE)
