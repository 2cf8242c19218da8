"""Exceptions of the client: one class per group of the service's error codes, which ``/docs`` of the service lists."""

from buckler.errors import BucklerError


class UnreachableError(BucklerError):
    """The service cannot be reached or did not answer in time."""


class ServiceError(BucklerError):
    """The service refused a request or a picture; codes of a newer service raise this class itself.

    Attributes:
        code: Reason, stable and machine readable.
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


class ImageError(ServiceError):
    """The picture is unusable; send another one."""


class RequestError(ServiceError):
    """The request is wrong; correct the program that sends it."""


class AccessError(ServiceError):
    """The service does not accept this request with this key, or without one; ask its operator."""


class UnavailableError(ServiceError):
    """The service cannot answer now; try again after ``retry_after``, or tell its operator."""


_CODES: dict[type[ServiceError], tuple[str, ...]] = {
    ImageError: ("image_empty", "image_unreadable", "image_unsupported", "image_too_large"),
    RequestError: (
        *("bad_request", "not_found", "method_not_allowed", "media_type_unsupported"),
        *("body_malformed", "body_too_large", "body_timeout"),
        *("field_missing", "field_repeated", "field_unknown", "too_many_pictures"),
        *("tensor_invalid", "model_unknown", "label_unknown", "receipt_unsupported"),
    ),
    AccessError: ("key_missing", "key_unknown", "role_forbidden", "query_attack"),
    UnavailableError: (
        *("rate_limited", "too_many_at_once", "overloaded", "timeout", "internal_error"),
        *("no_verified_model", "model_withdrawn"),
        *("keys_unavailable", "audit_unavailable", "receipt_unavailable"),
    ),
}
ERRORS = {code: group for group, codes in _CODES.items() for code in codes}


def service_error(
    code: str,
    message: str,
    *,
    status: int | None = None,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> ServiceError:
    """Return the exception for ``code``; arguments as the attributes of `ServiceError`."""
    group = ERRORS.get(code, ServiceError)
    return group(code, message, status=status, request_id=request_id, retry_after=retry_after)
