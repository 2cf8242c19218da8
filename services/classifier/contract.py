"""The REST contract: the fields of an answer, and the form of an error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from buckler.detection.reasons import Reason
from buckler.error_codes import ErrorCode
from buckler.errors import BucklerError

if TYPE_CHECKING:  # importing it for real would load TensorFlow into the supervisor process
    from buckler.serving.predictor import Prediction
    from services.classifier.served import Served

Decision = Literal["accept", "review"]
Opinion = Literal["agree", "disagree", "unsure"]


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
    findings: dict[str, float] | None = Field(
        default=None,
        exclude_if=lambda findings: findings is None,
        description="Probability of each finding; only of a model whose labels are sets of findings",
    )
    decision: Decision = Field(description="`review` requires a person to check the picture")
    reasons: list[Reason] = Field(
        description="Why `review`; empty with `accept`. " + " ".join(f"`{each}`: {each.meaning}." for each in Reason)
    )
    detector: DetectorAnswer
    model: ModelAnswer
    frame: int | None = Field(
        default=None,
        exclude_if=lambda frame: frame is None,
        description="The frame of the file that was classified, counted from 1; only if the request chose one",
    )
    receipt: ReceiptAnswer | None = Field(
        default=None,
        exclude_if=lambda receipt: receipt is None,
        description="Only in answer to the header `X-Buckler-Receipt: ed25519`",
    )

    @classmethod
    def of(cls, prediction: "Prediction", served: "Served", request_id: str, frame: int | None = None) -> "Answer":
        """Return the answer for a prediction of ``served``, about the chosen ``frame`` of the file."""
        predictor = served.predictor
        return cls.model_validate(
            {
                "request_id": request_id,
                "label": prediction.label,
                "probabilities": prediction.probabilities,
                "findings": prediction.findings,
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
                "frame": frame,
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


class Feedback(BaseModel):
    """What a clinician thinks of an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: str = Field(description="Id of the answer", pattern=r"^[0-9a-f]{32}(-[1-9][0-9]*)?$", max_length=64)
    opinion: Opinion
    label: str | None = Field(
        default=None, max_length=200, description="The label that the clinician would give, one of the model's"
    )


class FeedbackReceived(BaseModel):
    """An opinion that is recorded."""

    request_id: str = Field(description="Id of the answer")
    opinion: Opinion
    line: int = Field(description="Number of its line in the audit log")


class RefusalError(BucklerError):
    """Refuses a request with an error of the contract and additional response headers.

    Attributes:
        code: States the fault, and with it the status.
        detail: The message for the client; it never quotes the request.
        headers: Further headers of the response.
    """

    def __init__(self, code: ErrorCode, message: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self.code, self.detail, self.headers = code, message or code.message, headers
        super().__init__(f"{code}: {self.detail}")


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """How a format of answers writes errors.

    Attributes:
        body: Returns the body, as JSON types.
        model: Type of the body; None for a foreign standard.
    """

    media_type: str
    body: Callable[[RefusalError], dict[str, Any]]
    model: type[BaseModel] | None = None

    def response(self, refusal: RefusalError) -> JSONResponse:
        """Return the response to a refused request."""
        status, headers = refusal.code.status, refusal.headers
        return JSONResponse(self.body(refusal), status_code=status, headers=headers, media_type=self.media_type)


def error_answer(refusal: RefusalError) -> ErrorAnswer:
    """Return the body of an error."""
    return ErrorAnswer(error=ErrorDetail(code=refusal.code, message=refusal.detail))


ERROR_FORM = ErrorForm("application/json", lambda refusal: error_answer(refusal).model_dump(), ErrorAnswer)
