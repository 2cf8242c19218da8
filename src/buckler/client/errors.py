"""Exceptions of the client: one class for each group of `buckler.error_codes`."""

from pathlib import Path

from buckler.error_codes import ErrorCode, Group
from buckler.errors import BucklerError


class UnreachableError(BucklerError):
    """The service cannot be reached or did not answer in time."""


class UnreadableFileError(BucklerError):
    """A picture's file cannot be read, so it is not sent.

    Attributes:
        reason: Why not.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.reason = reason


class ServiceError(BucklerError):
    """The service refused a request or a picture; codes of a newer service raise this class itself.

    Attributes:
        code: A value of `ErrorCode`, or of a newer service.
        advice: What to do; None if the code is unknown.
        status: HTTP status; None for one picture among several.
        request_id: Identifies the request in the log of the service.
        retry_after: Seconds to wait before another attempt, if the service states them.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.status, self.request_id, self.retry_after = code, status, request_id, retry_after
        known = ErrorCode.known(code)
        self.advice = known.advice if known else None


class ImageError(ServiceError):
    """The picture is unusable; send another one."""


class RequestError(ServiceError):
    """The request is wrong; correct the program that sends it."""


class AccessError(ServiceError):
    """The service does not accept this request with this key, or without one; ask its operator."""


class UnavailableError(ServiceError):
    """The service cannot answer now; try again after ``retry_after``, or tell its operator."""


CLASSES: dict[Group, type[ServiceError]] = {
    Group.IMAGE: ImageError,
    Group.REQUEST: RequestError,
    Group.ACCESS: AccessError,
    Group.UNAVAILABLE: UnavailableError,
}


def service_error(
    code: str,
    message: str,
    *,
    status: int | None = None,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> ServiceError:
    """Return the exception for ``code``; arguments as the attributes of `ServiceError`."""
    known = ErrorCode.known(code)
    cls = CLASSES[known.group] if known else ServiceError
    return cls(code, message, status=status, request_id=request_id, retry_after=retry_after)
