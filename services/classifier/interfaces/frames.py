"""The query parameter that chooses a frame of a DICOM file."""

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError
from services.classifier.requests import Call
from services.classifier.routing import Query

FRAME = Query("frame", "Number of the frame of a DICOM file, from 1; a file of several frames needs it")
_DIGITS = 6


def chosen(call: Call) -> int | None:
    """Return the number of the frame that a request chooses; None if it chooses none.

    Raises:
        RefusalError: ``frame_unknown``: it is no whole number from 1, stands more than once, or several pictures came.
    """
    values = call.query.getlist(FRAME.name)
    if not values:
        return None
    if len(values) > 1 or len(call.files) != 1:
        raise RefusalError(ErrorCode.FRAME_UNKNOWN)
    value = values[0]
    if not (value.isascii() and value.isdecimal() and len(value) <= _DIGITS and int(value) >= 1):
        raise RefusalError(ErrorCode.FRAME_UNKNOWN)
    return int(value)
