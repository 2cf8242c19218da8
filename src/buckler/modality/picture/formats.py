"""Recognises the format of a picture by its content, never by its name."""

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError

_SIGNATURES = (("JPEG", 0, b"\xff\xd8\xff"), ("PNG", 0, b"\x89PNG\r\n\x1a\n"), ("DICOM", 128, b"DICM"))
# Magic bytes of unsupported formats, used only in error messages.
_OTHERS = (
    ("a GIF", 0, b"GIF8"),
    ("a TIFF", 0, b"II*\0"),
    ("a TIFF", 0, b"MM\0*"),
    ("a WebP", 8, b"WEBP"),
    ("a HEIF", 4, b"ftyphei"),
    ("a HEIF", 4, b"ftyphev"),
    ("a HEIF", 4, b"ftypmif1"),
    ("an AVIF", 4, b"ftypavi"),
    ("a video", 4, b"ftyp"),  # MP4 and its relatives
    ("a video", 0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    ("a video", 8, b"AVI "),
    ("a BMP", 0, b"BM"),
    ("a PDF", 0, b"%PDF"),
    ("a ZIP archive", 0, b"PK"),
    ("HTML, SVG or other XML", 0, b"<"),
)


def format_of(content: bytes) -> str:
    """Return the format of ``content``: ``JPEG``, ``PNG`` or ``DICOM``.

    Raises:
        UnusableImageError: It is empty (``image_empty``) or in another format (``image_unsupported``).
    """
    if not content:
        raise UnusableImageError(ErrorCode.IMAGE_EMPTY, "expected a JPEG or PNG picture, got no bytes")
    for name, place, magic in _SIGNATURES:
        if content.startswith(magic, place):
            return name
    # Never quote the bytes: a file sent by mistake may begin with a patient's name.
    kind = next((name for name, place, magic in _OTHERS if content.startswith(magic, place)), "something else")
    raise UnusableImageError(
        ErrorCode.IMAGE_UNSUPPORTED, f"expected a JPEG or PNG picture, got {kind}; convert it first"
    )
