"""Reads pictures from a multipart body chunk by chunk and rejects forms with other content.

BentoML's own form reader is not used: it fetches a URL that is sent as text instead of a file, stores the client's file
name on disk, and answers 500 to a malformed body.
"""

from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError

MULTIPART = "multipart/form-data"
FIELD = "image"
MAX_PARTS = 16
CODES = (ErrorCode.FIELD_MISSING, ErrorCode.FIELD_REPEATED, ErrorCode.FIELD_UNKNOWN)


class PictureForm:
    """Parser of a form with 1 to ``most`` files in the field ``image``; ``feed`` takes the body's chunks."""

    def __init__(self, content_type: str, most: int = 1) -> None:
        """Read the content type.

        Raises:
            RefusalError: ``media_type_unsupported``: it has no valid boundary.
        """
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not 1 <= len(boundary) <= 70:
            raise RefusalError(
                ErrorCode.MEDIA_TYPE_UNSUPPORTED, f"expected {MULTIPART} with a boundary of 1 to 70 characters"
            )
        self._most = most
        self._pictures: list[bytearray] = []
        self._parts = 0
        self._others = False
        self._complete = False
        self._in_picture = False
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body.

        Raises:
            RefusalError: ``body_malformed``, ``field_repeated``, ``too_many_pictures`` or ``field_unknown``.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RefusalError(ErrorCode.BODY_MALFORMED) from error

    def files(self) -> tuple[bytes, ...]:
        """Return the content of the files, at least one, in order. Call it after the last chunk.

        Raises:
            RefusalError: ``body_malformed``, ``field_missing`` or ``field_unknown``.
        """
        if not self._complete:
            raise RefusalError(ErrorCode.BODY_MALFORMED)
        if not self._pictures:
            raise RefusalError(ErrorCode.FIELD_MISSING)
        if self._others:
            raise RefusalError(ErrorCode.FIELD_UNKNOWN)
        return tuple(map(bytes, self._pictures))

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > max(MAX_PARTS, self._most):
            raise RefusalError(ErrorCode.FIELD_UNKNOWN)
        self._disposition = b""

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        is_file = b"filename" in options or b"filename*" in options
        if options.get(b"name") != FIELD.encode() or not is_file:  # a text field of that name is not a picture
            self._in_picture, self._others = False, True
        elif len(self._pictures) == self._most:
            raise _too_many(self._most)
        else:
            self._in_picture = True
            self._pictures.append(bytearray())

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_picture:
            self._pictures[-1] += data[start:end]

    def _on_end(self) -> None:
        self._complete = True


def schema(most: int) -> dict[str, Any]:
    """Return the OpenAPI media type object of a form with up to ``most`` files."""
    file = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1, "maxItems": most}
    described = {**(files if most > 1 else file), "description": "JPEG, PNG or DICOM; the file's name is ignored"}
    return {
        "schema": {
            "type": "object",
            "required": [FIELD],
            "additionalProperties": False,
            "properties": {FIELD: described},
        }
    }


def _too_many(most: int) -> RefusalError:
    if most == 1:
        return RefusalError(ErrorCode.FIELD_REPEATED)
    return RefusalError(
        ErrorCode.TOO_MANY_PICTURES, f"expected at most {most} files in the form field '{FIELD}', got more"
    )
