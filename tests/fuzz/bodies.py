"""Fuzz targets: bodies of requests."""

import numpy as np

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError
from services.classifier.interfaces.form import CODES, PictureForm
from services.classifier.interfaces.oip import OUTPUTS
from services.classifier.interfaces.tensors import Tensors
from tests.forms import square
from tests.fuzz.contract import require
from tests.fuzz.mutation import of_json, of_parts

MOST, SIDE = 4, 4
LONGEST_MESSAGE = 1_000
OF_FORMS = {ErrorCode.MEDIA_TYPE_UNSUPPORTED, ErrorCode.BODY_MALFORMED, ErrorCode.TOO_MANY_PICTURES, *CODES}
OF_TENSORS = {ErrorCode.BODY_MALFORMED, ErrorCode.TENSOR_INVALID, ErrorCode.TOO_MANY_PICTURES}


def form(data: bytes) -> bool:
    """The header ``Content-Type`` in the first line, and the body of a form, which arrives in different pieces."""
    content_type, _, body = data.partition(b"\n")
    whole, pieces = (_form(content_type.decode("latin-1"), body, step) for step in (len(body) or 1, 7))
    require(whole == pieces, "the result depends on how the bytes arrive")
    if not isinstance(whole, tuple):
        return False
    require(1 <= len(whole) <= MOST, f"{len(whole)} files")
    require(all(file in body for file in whole), "a file that was not sent")
    require(sum(map(len, whole)) <= len(body), "more bytes than were sent")
    return True


def _form(content_type: str, body: bytes, step: int) -> tuple[bytes, ...] | ErrorCode:
    try:
        reader = PictureForm(content_type, MOST)
        for start in range(0, len(body), step):
            reader.feed(body[start : start + step])
        return reader.files()
    except RefusalError as refusal:
        check_refusal(refusal, OF_FORMS)
        return refusal.code


def tensors(data: bytes) -> bool:
    """A request of the Open Inference Protocol: as JSON, and with what follows the last brace as bytes of tensors."""
    return any([_tensors(data, None), _tensors(data, str(data.rfind(b"}") + 1))])


def _tensors(data: bytes, json_length: str | None) -> bool:
    try:
        parsed = Tensors.parse(data, MOST, tuple(OUTPUTS), json_length)
        pictures = parsed.pictures(square(SIDE))
    except RefusalError as refusal:
        check_refusal(refusal, OF_TENSORS)
        return False
    require(1 <= len(pictures) <= MOST, f"{len(pictures)} pictures")
    for picture in pictures:
        if isinstance(picture, bytes):
            require(len(picture) <= len(data), "more bytes than were sent")
        else:
            require(
                (picture.shape, picture.dtype) == ((SIDE, SIDE, 3), np.float32), f"got {(picture.shape, picture.dtype)}"
            )
            require(picture.min() >= 0 and picture.max() <= 1, "pixels outside 0..1")
    return True


def check_refusal(refusal: RefusalError, codes: set[ErrorCode]) -> None:
    """Check that a refusal is one of ``codes``, about the request, and short."""
    require(refusal.code in codes, f"unexpected code {refusal.code}")
    require(400 <= refusal.code.status < 500, f"unexpected status {refusal.code.status}")
    require(len(refusal.detail) <= LONGEST_MESSAGE, f"a message of {len(refusal.detail)} characters")


def _parts(data: bytes) -> list[bytes]:
    """Return the lines of a form with the bytes after them."""
    return [line + b"\r\n" for line in data.split(b"\r\n")]


MUTATORS = {"form": of_parts(_parts, lambda parts: b"".join(parts)[:-2]), "tensors": of_json()}
