"""``/feedback``: what a clinician thinks of an answer, as a line of the audit log and a metric."""

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from buckler.error_codes import ErrorCode
from services.classifier.contract import Feedback, FeedbackReceived, RefusalError
from services.classifier.interfaces.bodies import JSON
from services.classifier.requests import Call
from services.classifier.routing import Format

MAX_BYTES = 4096

DESCRIPTION = """Records what a clinician thinks of an answer, without the picture: a line in the audit log, chained \
as the others, and the counter `buckler_feedback_total`. The service accepts an opinion only about an answer that it \
gave: it looks for `request_id` in the newest file of its audit log and in the file before, which all its workers \
share and which a restart keeps. Of several services, send it to the one that answered. Any other id is \
`answer_unknown`; without an audit log, every opinion is `feedback_unavailable`. A further opinion about the same \
answer is a further line; the last one counts. Each opinion counts towards the key's limits like a picture."""
GIVES = (Format(JSON, (FeedbackReceived,), "The recorded opinion"),)


def feedback(call: Call) -> Response:
    """Record an opinion about an answer.

    Raises:
        RefusalError: ``body_malformed`` or ``body_too_large``; or as `Pipeline.record_feedback`.
    """
    opinion = _parse(call.files[0])
    line = call.pipeline.record_feedback(opinion, call.sender)
    received = FeedbackReceived(request_id=opinion.request_id, opinion=opinion.opinion, line=line)
    return JSONResponse(received.model_dump(mode="json"))


def _parse(body: bytes) -> Feedback:
    if len(body) > MAX_BYTES:
        raise RefusalError(ErrorCode.BODY_TOO_LARGE, f"expected at most {MAX_BYTES} bytes; send an opinion only")
    try:
        return Feedback.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise RefusalError(
            ErrorCode.BODY_MALFORMED,
            f"expected a JSON object with {', '.join(Feedback.model_fields)}; see /docs: {_fault(error)}",
        ) from None


def _fault(error: ValidationError) -> str:
    """Return the first fault; it names only fields of the contract, never what the client wrote."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    known = [str(part) for part in first["loc"] if part in Feedback.model_fields]
    problem = {"extra_forbidden": "unknown field", "json_invalid": "the body is not JSON"}.get(first["type"])
    return ": ".join([*known, problem or str(first["msg"])])
