"""Error codes of the REST service: a closed list for service, client, console and documentation."""

from enum import StrEnum
from http import HTTPStatus


class Group(StrEnum):
    """Who can correct an error, and how."""

    IMAGE = "image"  # the sender, with another picture or record
    REQUEST = "request"  # the author of the program that sends the request
    ACCESS = "access"  # the operator of the service, who decides who may send what
    UNAVAILABLE = "unavailable"  # nobody but time, or the operator of the service


class ErrorCode(StrEnum):
    """Why the service refuses a request or a picture.

    Attributes:
        status: HTTP status of the response.
        group: Who can correct the error.
        meaning: What is wrong; a clause that begins in lower case and has no full stop.
        advice: What the caller does; as ``meaning``, in the imperative.
    """

    status: HTTPStatus
    group: Group
    meaning: str
    advice: str

    def __new__(
        cls,
        value: str,
        status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR,
        group: Group = Group.UNAVAILABLE,
        meaning: str = "",
        advice: str = "",
    ) -> "ErrorCode":
        """Create a member whose value is the error's code in the REST API."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.status, code.group, code.meaning, code.advice = status, group, meaning, advice
        return code

    @classmethod
    def known(cls, value: object) -> "ErrorCode | None":
        """Return the member of this value; None if there is none, as for a code of a newer service."""
        return next((each for each in cls if each == value), None)

    @property
    def message(self) -> str:
        """The message of a response that has no more specific one."""
        return f"{self.meaning}; {self.advice}"

    IMAGE_EMPTY = (
        "image_empty",
        HTTPStatus.BAD_REQUEST,
        Group.IMAGE,
        "the file of the picture is empty",
        "choose the picture again and send it",
    )
    IMAGE_UNREADABLE = (
        "image_unreadable",
        HTTPStatus.UNPROCESSABLE_ENTITY,
        Group.IMAGE,
        "the picture is damaged or incomplete",
        "export or save it again, then send it once more",
    )
    IMAGE_UNSUPPORTED = (
        "image_unsupported",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        Group.IMAGE,
        "the file is not a picture of a supported format",
        "send one of these with one picture: JPEG, PNG, DICOM, HEIC, AVIF, WebP, TIFF or BMP",
    )
    IMAGE_TOO_LARGE = (
        "image_too_large",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        Group.IMAGE,
        "the picture has too many pixels",
        "send a smaller one",
    )
    RECORD_INVALID = (
        "record_invalid",
        HTTPStatus.UNPROCESSABLE_ENTITY,
        Group.IMAGE,
        "the record is not one that the model reads",
        "correct the value that the message names and send it again",
    )
    DECODE_TIMEOUT = (
        "decode_timeout",
        HTTPStatus.UNPROCESSABLE_ENTITY,
        Group.IMAGE,
        "decoding the picture took too long",
        "send a smaller one",
    )
    FIELD_MISSING = (
        "field_missing",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "expected a file in the form field 'image', got none",
        "send the picture in this field",
    )
    FIELD_REPEATED = (
        "field_repeated",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "expected one file in the form field 'image', got several",
        "send one picture in each request",
    )
    FIELD_UNKNOWN = (
        "field_unknown",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "expected no form field but 'image'",
        "remove the other fields",
    )
    TOO_MANY_PICTURES = (
        "too_many_pictures",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "the request contains too many pictures",
        "send them in several requests",
    )
    TENSOR_INVALID = (
        "tensor_invalid",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "the tensors do not match the inputs of the model",
        "send tensors as its metadata describes them",
    )
    MODEL_UNKNOWN = (
        "model_unknown",
        HTTPStatus.NOT_FOUND,
        Group.REQUEST,
        "this service has no model of this name and version",
        "use the name and version in the model card",
    )
    LABEL_UNKNOWN = (
        "label_unknown",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "the model has no such label",
        "use one of the labels in the model card",
    )
    FRAME_UNKNOWN = (
        "frame_unknown",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "the frame is not one whole number from 1, or several pictures came with it",
        "send one picture, with the number of one of its frames",
    )
    ANSWER_UNKNOWN = (
        "answer_unknown",
        HTTPStatus.NOT_FOUND,
        Group.REQUEST,
        "this service has no answer with this request id among its recent ones",
        "send the request id of an answer of this service, soon after it",
    )
    BODY_MALFORMED = (
        "body_malformed",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "the body is incomplete or does not match its content type",
        "correct the body or the header Content-Type",
    )
    BODY_TOO_LARGE = (
        "body_too_large",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        Group.REQUEST,
        "the upload is too large",
        "send a smaller file, or fewer files at once",
    )
    BODY_TIMEOUT = (
        "body_timeout",
        HTTPStatus.REQUEST_TIMEOUT,
        Group.REQUEST,
        "the upload did not arrive in time",
        "send it again, or send a smaller file",
    )
    MEDIA_TYPE_UNSUPPORTED = (
        "media_type_unsupported",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        Group.REQUEST,
        "the content type of the request is not supported",
        "send multipart/form-data with a boundary, or the file itself as image/jpeg (or its own type),"
        " application/dicom or application/octet-stream; application/json for the Open Inference Protocol",
    )
    NOT_ACCEPTABLE = (
        "not_acceptable",
        HTTPStatus.NOT_ACCEPTABLE,
        Group.REQUEST,
        "the answer cannot be written in a format that the header Accept names",
        "ask for application/json, or for application/fhir+json with fhirVersion=4.0",
    )
    RECEIPT_UNSUPPORTED = (
        "receipt_unsupported",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "expected the header X-Buckler-Receipt to be ed25519",
        "send this value, or remove the header",
    )
    BAD_REQUEST = (
        "bad_request",
        HTTPStatus.BAD_REQUEST,
        Group.REQUEST,
        "the request is invalid",
        "send it as /docs describes",
    )
    NOT_FOUND = (
        "not_found",
        HTTPStatus.NOT_FOUND,
        Group.REQUEST,
        "there is no such path",
        "use one of the paths in /docs",
    )
    METHOD_NOT_ALLOWED = (
        "method_not_allowed",
        HTTPStatus.METHOD_NOT_ALLOWED,
        Group.REQUEST,
        "this path does not allow this method",
        "use the method that /docs lists",
    )
    HOST_UNKNOWN = (
        "host_unknown",
        HTTPStatus.MISDIRECTED_REQUEST,
        Group.ACCESS,
        "this service, which needs no keys, does not have the host name of the request",
        "use its address, or ask an operator of the service to add the name to BUCKLER_HOST_NAMES",
    )
    KEY_MISSING = (
        "key_missing",
        HTTPStatus.UNAUTHORIZED,
        Group.ACCESS,
        "the request has no key",
        "send one in the header 'Authorization: Bearer <key>'; an operator of the service creates it",
    )
    KEY_UNKNOWN = (
        "key_unknown",
        HTTPStatus.UNAUTHORIZED,
        Group.ACCESS,
        "this key is unknown or was revoked",
        "ask an operator of the service for another",
    )
    ROLE_FORBIDDEN = (
        "role_forbidden",
        HTTPStatus.FORBIDDEN,
        Group.ACCESS,
        "this key has the wrong role",
        "use another key, or ask an operator of the service for one",
    )
    QUERY_ATTACK = (
        "query_attack",
        HTTPStatus.TOO_MANY_REQUESTS,
        Group.ACCESS,
        "too many near-identical pictures",
        "send other ones, or ask an operator of the service",
    )
    RATE_LIMITED = (
        "rate_limited",
        HTTPStatus.TOO_MANY_REQUESTS,
        Group.UNAVAILABLE,
        "too many pictures in a short time",
        "wait a moment and try again",
    )
    TOO_MANY_AT_ONCE = (
        "too_many_at_once",
        HTTPStatus.TOO_MANY_REQUESTS,
        Group.UNAVAILABLE,
        "too many pictures at the same time",
        "wait a moment and try again",
    )
    OVERLOADED = (
        "overloaded",
        HTTPStatus.SERVICE_UNAVAILABLE,
        Group.UNAVAILABLE,
        "the service is busy with other requests",
        "wait a moment and try again",
    )
    TIMEOUT = (
        "timeout",
        HTTPStatus.GATEWAY_TIMEOUT,
        Group.UNAVAILABLE,
        "the answer took too long",
        "try again later",
    )
    NO_VERIFIED_MODEL = (
        "no_verified_model",
        HTTPStatus.SERVICE_UNAVAILABLE,
        Group.UNAVAILABLE,
        "no model with a valid verdict is loaded",
        "tell an operator of the service, who must promote one",
    )
    MODEL_WITHDRAWN = (
        "model_withdrawn",
        HTTPStatus.SERVICE_UNAVAILABLE,
        Group.UNAVAILABLE,
        "the model was withdrawn after a later check of it failed",
        "tell an operator of the service, who must roll back or promote another",
    )
    KEYS_UNAVAILABLE = (
        "keys_unavailable",
        HTTPStatus.SERVICE_UNAVAILABLE,
        Group.UNAVAILABLE,
        "the keys cannot be read, so no key can be checked",
        "tell an operator of the service, who must read the log",
    )
    AUDIT_UNAVAILABLE = (
        "audit_unavailable",
        HTTPStatus.SERVICE_UNAVAILABLE,
        Group.UNAVAILABLE,
        "the answer could not be written to the audit log and is withheld",
        "try again later, and tell an operator of the service",
    )
    FEEDBACK_UNAVAILABLE = (
        "feedback_unavailable",
        HTTPStatus.NOT_FOUND,
        Group.UNAVAILABLE,
        "this service keeps no audit log, so it can record no opinion",
        "ask an operator of the service to turn the audit log on",
    )
    RECEIPT_UNAVAILABLE = (
        "receipt_unavailable",
        HTTPStatus.NOT_ACCEPTABLE,
        Group.UNAVAILABLE,
        "this service has no key to sign receipts with",
        "remove the header X-Buckler-Receipt, or ask an operator of the service for receipts",
    )
    INTERNAL_ERROR = (
        "internal_error",
        HTTPStatus.INTERNAL_SERVER_ERROR,
        Group.UNAVAILABLE,
        "an unexpected error occurred",
        "give the request id to an operator of the service",
    )


# The key is missing, unknown, or has another role.
KEY_CODES = (ErrorCode.KEY_MISSING, ErrorCode.KEY_UNKNOWN, ErrorCode.ROLE_FORBIDDEN)
