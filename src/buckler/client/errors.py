"""What the service refuses, one exception a code, as its ``/docs`` list them."""

from typing import ClassVar

from buckler.errors import BucklerError


class UnreachableError(BucklerError):
    """No answer came: nobody listens, or not in time."""


class ServiceError(BucklerError):
    """The service refused a request or a picture, for a reason that has no class of its own here.

    Attributes:
        code: Stable, machine readable.
        status: Of the HTTP answer; of one picture among several, None.
        request_id: For the operator's question.
        retry_after: Seconds after which another try may do better, where the service says so.
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
        """Return the exception for ``code``; a newer service may have codes that this client does not know."""
        return cls.ERRORS.get(code, ServiceError)(code, message, **known)  # type: ignore[arg-type]


class ImageError(ServiceError):
    """A picture is not usable; base of the four below."""


class ImageEmptyError(ImageError, code="image_empty"):
    """The picture has no bytes."""


class ImageUnreadableError(ImageError, code="image_unreadable"):
    """The picture is damaged or incomplete."""


class ImageUnsupportedError(ImageError, code="image_unsupported"):
    """The picture is neither JPEG nor PNG nor a DICOM file of a kind that is read."""


class ImageTooLargeError(ImageError, code="image_too_large"):
    """The picture has too many pixels."""


class FieldMissingError(ServiceError, code="field_missing"):
    """The form holds no picture."""


class FieldRepeatedError(ServiceError, code="field_repeated"):
    """The form holds several pictures where one is expected."""


class FieldUnknownError(ServiceError, code="field_unknown"):
    """The form holds something else."""


class TooManyPicturesError(ServiceError, code="too_many_pictures"):
    """The request holds more pictures than the service takes at once."""


class TensorInvalidError(ServiceError, code="tensor_invalid"):
    """The tensors are not those that the model takes."""


class ModelUnknownError(ServiceError, code="model_unknown"):
    """No model of this name and version answers there."""


class LabelUnknownError(ServiceError, code="label_unknown"):
    """The model knows no such label."""


class BodyMalformedError(ServiceError, code="body_malformed"):
    """The body is not what its content type says."""


class BodyTooLargeError(ServiceError, code="body_too_large"):
    """The request is too large."""


class BodyTimeoutError(ServiceError, code="body_timeout"):
    """The request did not arrive in time."""


class MediaTypeUnsupportedError(ServiceError, code="media_type_unsupported"):
    """The content type is none that the service reads."""


class KeyMissingError(ServiceError, code="key_missing"):
    """The service asks for a key."""


class KeyUnknownError(ServiceError, code="key_unknown"):
    """The key is unknown or was revoked."""


class RoleForbiddenError(ServiceError, code="role_forbidden"):
    """The key is for something else."""


class RateLimitedError(ServiceError, code="rate_limited"):
    """Too many pictures a second with this key."""


class QueryAttackError(ServiceError, code="query_attack"):
    """Pictures sent with this key are all but the same; the operator can say why that is refused."""


class TooManyAtOnceError(ServiceError, code="too_many_at_once"):
    """Too many pictures at once with this key."""


class ReceiptUnsupportedError(ServiceError, code="receipt_unsupported"):
    """There is no receipt of this kind, or not for this."""


class ReceiptUnavailableError(ServiceError, code="receipt_unavailable"):
    """The service has no key to sign receipts with."""


class BadRequestError(ServiceError, code="bad_request"):
    """The request cannot be understood."""


class NotFoundError(ServiceError, code="not_found"):
    """Nothing is there; is the address the service's?"""


class MethodNotAllowedError(ServiceError, code="method_not_allowed"):
    """This method is not allowed there."""


class NoVerifiedModelError(ServiceError, code="no_verified_model"):
    """No model with a verdict that holds is loaded."""


class ModelWithdrawnError(ServiceError, code="model_withdrawn"):
    """The verdict of the model that serves was taken back."""


class OverloadedError(ServiceError, code="overloaded"):
    """Too many requests are being answered."""


class KeysUnavailableError(ServiceError, code="keys_unavailable"):
    """The service cannot read its keys."""


class AuditUnavailableError(ServiceError, code="audit_unavailable"):
    """The answer could not be written to the audit log, so it is not given."""


class AnswerTimeoutError(ServiceError, code="timeout"):
    """The answer took too long."""


class InternalError(ServiceError, code="internal_error"):
    """An unexpected error; the operator finds it by the request id."""
