"""The REST contract: the fields of an answer, and each error with its code, status and message."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from bentoml.exceptions import BentoMLException
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from buckler.detection.reasons import Reason

if TYPE_CHECKING:  # importing it for real would load TensorFlow into the supervisor process
    from buckler.serving.predictor import Prediction
    from services.classifier.served import Served

Decision = Literal["accept", "review"]


class DetectorAnswer(BaseModel):
    """Result of the adversarial-input detector."""

    score: float = Field(description="Higher is more suspicious")
    threshold: float = Field(description="A score above it flags the picture")
    verdict: Literal["clean", "adversarial"]


class ModelAnswer(BaseModel):
    """The model that answered, and the verdict that lets it serve."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of the model directory")
    verdict: str = Field(description="Identity of the signed verdict that lets this model serve")


class SignatureAnswer(BaseModel):
    """One signature of a receipt."""

    keyid: str = Field(description="SHA-256 of the raw public key")
    sig: str = Field(description="Ed25519 over DSSE's encoding of type and payload, in base64")


class ReceiptAnswer(BaseModel):
    """A DSSE envelope around the signed answer; `buckler verify-receipt` checks it offline."""

    payload: str = Field(description="An in-toto statement in base64: input digest, answer, time, audit line")
    payloadType: str  # noqa: N815 - DSSE's own name
    signatures: list[SignatureAnswer]


class Answer(BaseModel):
    """The answer to one picture."""

    request_id: str
    label: str = Field(description="The most probable label")
    probabilities: dict[str, float] = Field(description="Probability of each label; they sum to one")
    decision: Decision = Field(description="`review` requires a person to check the picture")
    reasons: list[Reason] = Field(
        description="Why `review`; empty with `accept`. " + " ".join(f"`{each}`: {each.meaning}." for each in Reason)
    )
    detector: DetectorAnswer
    model: ModelAnswer
    receipt: ReceiptAnswer | None = Field(
        default=None,
        exclude_if=lambda receipt: receipt is None,
        description="Only in answer to the header `X-Buckler-Receipt: ed25519`",
    )

    @classmethod
    def of(cls, prediction: "Prediction", served: "Served", request_id: str) -> "Answer":
        """Return the answer for a prediction of ``served``."""
        predictor = served.predictor
        return cls.model_validate(
            {
                "request_id": request_id,
                "label": prediction.label,
                "probabilities": prediction.probabilities,
                "decision": prediction.decision,
                "reasons": list(prediction.reasons),
                "detector": {
                    "score": prediction.score,
                    "threshold": prediction.threshold,
                    "verdict": prediction.verdict,
                },
                "model": {
                    "name": served.name,
                    "version": served.version,
                    "digest": predictor.digest,
                    "verdict": predictor.verdict.id,
                },
            }
        )


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable, machine readable")
    message: str = Field(description="For people: what was expected, what came, what to do")


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class BatchAnswer(BaseModel):
    """Answers to several pictures, in order; an unusable picture has its error instead."""

    answers: list[Answer | ErrorAnswer]


# All error codes that a client can get, with status and default message; most errors have a more specific message.
ERRORS: Mapping[str, tuple[HTTPStatus, str]] = {
    "image_empty": (HTTPStatus.BAD_REQUEST, "the picture has no bytes"),
    "image_unreadable": (HTTPStatus.UNPROCESSABLE_ENTITY, "the picture is damaged or incomplete"),
    "image_unsupported": (
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "the picture is neither JPEG nor PNG nor DICOM",
    ),
    "image_too_large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the picture has too many pixels"),
    "field_missing": (HTTPStatus.BAD_REQUEST, "expected a file in the form field 'image'"),
    "field_repeated": (HTTPStatus.BAD_REQUEST, "expected one file in the form field 'image', got several"),
    "tensor_invalid": (HTTPStatus.BAD_REQUEST, "the tensors do not match the inputs of the model; see its metadata"),
    "model_unknown": (HTTPStatus.NOT_FOUND, "this service has no model of this name and version"),
    "label_unknown": (HTTPStatus.BAD_REQUEST, "the model has no such label"),
    "too_many_pictures": (HTTPStatus.BAD_REQUEST, "the request contains too many pictures"),
    "field_unknown": (HTTPStatus.BAD_REQUEST, "expected no form field but 'image'"),
    "body_malformed": (HTTPStatus.BAD_REQUEST, "the body is incomplete or does not match its content type"),
    "body_too_large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request body is too large"),
    "body_timeout": (HTTPStatus.REQUEST_TIMEOUT, "the request body did not arrive in time"),
    "key_missing": (
        HTTPStatus.UNAUTHORIZED,
        "expected a key in the header 'Authorization: Bearer <key>'; an operator creates one",
    ),
    "key_unknown": (HTTPStatus.UNAUTHORIZED, "this key is unknown or was revoked; ask an operator for another"),
    "role_forbidden": (HTTPStatus.FORBIDDEN, "this key has another role; use another key"),
    "rate_limited": (HTTPStatus.TOO_MANY_REQUESTS, "too many requests a second with this key; see Retry-After"),
    "too_many_at_once": (HTTPStatus.TOO_MANY_REQUESTS, "too many requests at once with this key; see Retry-After"),
    "query_attack": (
        HTTPStatus.TOO_MANY_REQUESTS,
        "too many near-identical pictures; send other ones, or ask an operator",
    ),
    "media_type_unsupported": (
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "expected the content type multipart/form-data with a boundary, or application/dicom; application/json for "
        "the Open Inference Protocol",
    ),
    "receipt_unsupported": (HTTPStatus.BAD_REQUEST, "expected the header X-Buckler-Receipt to be ed25519, or none"),
    "receipt_unavailable": (
        HTTPStatus.NOT_ACCEPTABLE,
        "this service has no key to sign receipts with; remove the header X-Buckler-Receipt",
    ),
    "bad_request": (HTTPStatus.BAD_REQUEST, "the request is invalid; see /docs"),
    "not_found": (HTTPStatus.NOT_FOUND, "there is no such path; see /docs"),
    "method_not_allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "this method is not allowed here; see /docs"),
    "no_verified_model": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "no model with a valid verdict is loaded; an operator must promote one",
    ),
    "model_withdrawn": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the model was withdrawn, see its card; an operator must roll back or promote another",
    ),
    "overloaded": (HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are being answered; see Retry-After"),
    "keys_unavailable": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the keys cannot be read, so no key can be checked; an operator must read the log",
    ),
    "audit_unavailable": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the answer could not be written to the audit log and is withheld; try again later",
    ),
    "timeout": (HTTPStatus.GATEWAY_TIMEOUT, "the answer took too long; try again later"),
    "internal_error": (
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "unexpected error; give the request id to the operator",
    ),
}

# Codes for errors of the framework, which have only a status.
CODE_OF_STATUS = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.SERVICE_UNAVAILABLE: "no_verified_model",
}


class RefusalError(BentoMLException):
    """Refuses a request with the error ``code`` of ``ERRORS`` and additional response ``headers``.

    BentoML forwards only the text of an exception, so the text starts with the code.
    """

    def __init__(self, code: str, message: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        status, default = ERRORS[code]
        self.code = code
        self.headers = headers
        self.detail = message or default
        # BentoML replaces the text if the status is 500 or more; the front door restores the status from the code.
        carried = status if status < HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus.BAD_REQUEST
        super().__init__(f"{code}: {self.detail}", error_code=carried)


def error_answer(code: str, message: str | None = None) -> ErrorAnswer:
    """Return the body of the error ``code``, with its default message unless another one is given."""
    return ErrorAnswer(error=ErrorDetail(code=code, message=message or ERRORS[code][1]))


def error_response(code: str, message: str | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response for the error ``code``."""
    return _response(code, error_answer(code, message).model_dump(), headers)


def oip_error(code: str, message: str | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response for ``code`` in the Open Inference Protocol: one text that starts with the code."""
    return _response(code, {"error": f"{code}: {error_answer(code, message).error.message}"}, headers)


def _response(code: str, body: Mapping[str, Any], headers: Mapping[str, str] | None) -> JSONResponse:
    return JSONResponse(body, status_code=ERRORS[code][0], headers=headers)


def code_and_message(status: int, body: Any) -> tuple[str, str | None]:
    """Return code and message of an error response from BentoML or from our pages; None for the default message.

    Args:
        status: HTTP status, 400 or more.
        body: Decoded JSON; None for other content. BentoML wraps the text of a ``RefusalError`` as
            ``[{"error": "<code>: <message>"}]``, our pages use ``ErrorAnswer``. No other text is forwarded, because it
            could quote the request.
    """
    if isinstance(body, dict) and isinstance(body.get("error"), dict) and body["error"].get("code") in ERRORS:
        return body["error"]["code"], body["error"].get("message")
    if isinstance(body, list) and len(body) == 1 and isinstance(body[0], dict):
        code, separator, message = str(body[0].get("error", "")).partition(": ")
        if separator and code in ERRORS:
            return code, message
    if status in CODE_OF_STATUS:
        return CODE_OF_STATUS[HTTPStatus(status)], None
    return ("bad_request" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal_error"), None
