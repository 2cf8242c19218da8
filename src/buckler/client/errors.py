"""Exceptions for the service's error codes, one class per code; ``/docs`` of the service lists them."""

from typing import ClassVar

from buckler.errors import BucklerError


class UnreachableError(BucklerError):
    """The service cannot be reached or did not answer in time."""


class ServiceError(BucklerError):
    """The service refused a request or a picture; raised itself only for codes without a class here.

    Attributes:
        code: Stable, machine readable.
        status: HTTP status; None for one picture among several.
        request_id: Identifies the request in the log of the service.
        retry_after: Seconds to wait before another attempt, if the service states them.
    """

    ERRORS: ClassVar[dict[str, type["ServiceError"]]] = {}

    def __init_subclass__(cls, code: str | None = None) -> None:
        if code:
            cls.ERRORS[code] = cls

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

    @classmethod
    def of(cls, code: str, message: str, **known: object) -> "ServiceError":
        """Return the exception for ``code``; codes of a newer service become ``ServiceError``."""
        return cls.ERRORS.get(code, ServiceError)(code, message, **known)  # type: ignore[arg-type]


class ImageError(ServiceError):
    """The picture is unusable; base of the four classes below."""


class ImageEmptyError(ImageError, code="image_empty"):
    """The picture has no bytes."""


class ImageUnreadableError(ImageError, code="image_unreadable"):
    """The picture is damaged or incomplete."""


class ImageUnsupportedError(ImageError, code="image_unsupported"):
    """The picture is neither JPEG nor PNG nor a supported DICOM file."""


class ImageTooLargeError(ImageError, code="image_too_large"):
    """The picture has too many pixels."""


class FieldMissingError(ServiceError, code="field_missing"):
    """The form contains no picture."""


class FieldRepeatedError(ServiceError, code="field_repeated"):
    """The form contains several pictures where one is expected."""


class FieldUnknownError(ServiceError, code="field_unknown"):
    """The form contains an unknown field."""


class TooManyPicturesError(ServiceError, code="too_many_pictures"):
    """The request contains more pictures than the service accepts at once."""


class TensorInvalidError(ServiceError, code="tensor_invalid"):
    """The tensors do not match the inputs of the model."""


class ModelUnknownError(ServiceError, code="model_unknown"):
    """The service has no model of this name and version."""


class LabelUnknownError(ServiceError, code="label_unknown"):
    """The model has no such label."""


class BodyMalformedError(ServiceError, code="body_malformed"):
    """The body does not match its content type."""


class BodyTooLargeError(ServiceError, code="body_too_large"):
    """The request is too large."""


class BodyTimeoutError(ServiceError, code="body_timeout"):
    """The request did not arrive in time."""


class MediaTypeUnsupportedError(ServiceError, code="media_type_unsupported"):
    """The service does not support the content type."""


class KeyMissingError(ServiceError, code="key_missing"):
    """The service requires a key."""


class KeyUnknownError(ServiceError, code="key_unknown"):
    """The key is unknown or was revoked."""


class RoleForbiddenError(ServiceError, code="role_forbidden"):
    """The key has another role than the path needs."""


class RateLimitedError(ServiceError, code="rate_limited"):
    """Too many pictures a second with this key."""


class QueryAttackError(ServiceError, code="query_attack"):
    """The client sent too many near-identical pictures, as in a search for an adversarial one."""


class TooManyAtOnceError(ServiceError, code="too_many_at_once"):
    """Too many pictures at once with this key."""


class ReceiptUnsupportedError(ServiceError, code="receipt_unsupported"):
    """The service does not issue receipts of this kind, or not on this path."""


class ReceiptUnavailableError(ServiceError, code="receipt_unavailable"):
    """The service has no key to sign receipts with."""


class BadRequestError(ServiceError, code="bad_request"):
    """The request cannot be understood."""


class NotFoundError(ServiceError, code="not_found"):
    """The path does not exist; check the address of the service."""


class MethodNotAllowedError(ServiceError, code="method_not_allowed"):
    """This method is not allowed there."""


class NoVerifiedModelError(ServiceError, code="no_verified_model"):
    """No model with a valid verdict is loaded."""


class ModelWithdrawnError(ServiceError, code="model_withdrawn"):
    """The verdict of the live model was withdrawn."""


class OverloadedError(ServiceError, code="overloaded"):
    """Too many requests are being answered."""


class KeysUnavailableError(ServiceError, code="keys_unavailable"):
    """The service cannot read its keys."""


class AuditUnavailableError(ServiceError, code="audit_unavailable"):
    """The audit log cannot be written, so the service withholds the answer."""


class AnswerTimeoutError(ServiceError, code="timeout"):
    """The answer took too long."""


class InternalError(ServiceError, code="internal_error"):
    """An unexpected error; the operator finds it by the request id."""
