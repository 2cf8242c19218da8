"""Reads pictures from a multipart body and rejects forms with other content.

BentoML's own form reader is not used: it fetches a URL that is sent as text instead of a file, stores the client's file
name on disk, and answers 500 to a malformed body.
"""

from typing import Any

from buckler.error_codes import ErrorCode
from buckler.modality.picture.formats import LISTED
from services.classifier.contract import RefusalError
from services.classifier.interfaces.multipart import Headers, MalformedError, Multipart, parameters

MULTIPART = "multipart/form-data"
FIELD = "image"
MAX_PARTS = 16
# Media types of parts without a file name.
OF_FILES = ("image/", "application/dicom", "application/json", "application/octet-stream")
AS_THEY_ARE = ("", "7bit", "8bit", "binary")  # transfer encodings of which none changes the content
CODES = (ErrorCode.FIELD_MISSING, ErrorCode.FIELD_REPEATED, ErrorCode.FIELD_UNKNOWN)


class PictureForm:
    """Parser of a form with 1 to ``most`` files in the field ``image``; ``feed`` takes the body's chunks."""

    def __init__(self, content_type: str, most: int = 1) -> None:
        """Read the content type.

        Raises:
            RefusalError: ``media_type_unsupported``: it has no valid boundary.
        """
        try:
            boundary = parameters(content_type).get("boundary", "")
        except MalformedError:
            boundary = ""
        if not 1 <= len(boundary) <= 70:
            raise RefusalError(
                ErrorCode.MEDIA_TYPE_UNSUPPORTED, f"expected {MULTIPART} with a boundary of 1 to 70 characters"
            )
        self._most = most
        self._pictures: list[bytearray] = []
        self._parts = 0
        self._others = False
        self._in_picture = False
        self._parser = Multipart(boundary.encode("latin-1"))

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body.

        Raises:
            RefusalError: ``body_malformed``, ``field_repeated``, ``too_many_pictures`` or ``field_unknown``.
        """
        for found in self._parser.feed(chunk):
            if not isinstance(found, bytes):
                self._begin_part(found)
            elif self._in_picture:
                self._pictures[-1] += found

    def files(self) -> tuple[bytes, ...]:
        """Return the content of the files, at least one, in order. Call it after the last chunk.

        Raises:
            RefusalError: ``body_malformed``, ``field_missing`` or ``field_unknown``.
        """
        if not self._parser.complete:
            raise RefusalError(ErrorCode.BODY_MALFORMED)
        if not self._pictures:
            raise RefusalError(ErrorCode.FIELD_MISSING)
        if self._others:
            raise RefusalError(ErrorCode.FIELD_UNKNOWN)
        return tuple(map(bytes, self._pictures))

    def _begin_part(self, headers: Headers) -> None:
        self._parts += 1
        if self._parts > max(MAX_PARTS, self._most):
            raise RefusalError(ErrorCode.FIELD_UNKNOWN)
        self._in_picture = _is_picture(headers)
        if not self._in_picture:
            self._others = True
        elif len(self._pictures) == self._most:
            raise _too_many(self._most)
        else:
            self._pictures.append(bytearray())


def _is_picture(headers: Headers) -> bool:
    """Return whether a part is a file in the field; a text of that name is none.

    Raises:
        RefusalError: ``body_malformed``.
    """
    if headers.get("content-transfer-encoding", "").lower() not in AS_THEY_ARE:
        message = "expected the file itself in the form, got it in a Content-Transfer-Encoding"
        raise RefusalError(ErrorCode.BODY_MALFORMED, message)
    try:
        named = parameters(headers.get("content-disposition", ""))
    except MalformedError as error:
        raise RefusalError(ErrorCode.BODY_MALFORMED, f"the form is malformed: {error}") from error
    # `filename*` alone has the name in another character set: some clients send no other one. A file needs no name.
    has_file_name = any(each.partition("*")[0] == "filename" for each in named)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return named.get("name") == FIELD and (has_file_name or media_type.startswith(OF_FILES))


def schema(most: int) -> dict[str, Any]:
    """Return the OpenAPI media type object of a form with up to ``most`` files."""
    file = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1, "maxItems": most}
    described = {**(files if most > 1 else file), "description": f"{LISTED}; the file's name is ignored"}
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
