"""``/predict``: the answer to one picture, or the answers to several."""

from collections.abc import Callable, Mapping, Sequence

from starlette.responses import JSONResponse, Response

from buckler.modality.picture.formats import LISTED
from services.classifier.contract import Answer, BatchAnswer, ErrorAnswer, RefusalError, error_answer
from services.classifier.interfaces import fhir, frames
from services.classifier.interfaces.bodies import JSON
from services.classifier.interfaces.fhir import FHIR_JSON
from services.classifier.requests import Call
from services.classifier.routing import Format

Items = Sequence[Answer | RefusalError]


async def predict(call: Call) -> Response:
    """Answer the pictures in order, in the format that the client asks for.

    Raises:
        RefusalError: The only picture is unusable, or the whole request is refused.
    """
    return WRITERS[call.format.media_type](await _items(call))


async def _items(call: Call) -> Items:
    served, frame = call.ready(), frames.chosen(call)
    if len(call.files) == 1:
        return [(await call.answer(served, call.files[0], frame=frame)).answer]
    return [each if isinstance(each, RefusalError) else each.answer async for each in call.answers(served, call.files)]


def _as_json(items: Items) -> Response:
    if len(items) == 1 and isinstance(items[0], Answer):
        return JSONResponse(items[0].model_dump(mode="json"))
    return JSONResponse(BatchAnswer(answers=[_item(each) for each in items]).model_dump(mode="json"))


def _item(each: Answer | RefusalError) -> Answer | ErrorAnswer:
    return each if isinstance(each, Answer) else error_answer(each)


WRITERS: Mapping[str, Callable[[Items], Response]] = {JSON: _as_json, FHIR_JSON: fhir.response}
DESCRIPTION = f"""Takes {LISTED}, recognised by content. Of a DICOM file, only the elements that describe the pixels \
are read; of several frames, the query `frame` chooses one. A form has one to {{batch_limit}} pictures in the \
field `image`; one picture may also be the body itself. The request has at most {{body_limit}}. The response to one \
picture is its answer; the response to several is `answers` in their order, with an `error` in the place of each \
unusable picture. Each picture counts towards the key's limits, and each answer is recorded in the audit log. With \
`Accept: application/fhir+json`, the answer is a FHIR R4 `DiagnosticReport` with status `preliminary`, several are a \
`Bundle`, and an error is an `OperationOutcome`; FHIR as XML or of another version is refused."""
GIVES = (
    Format(JSON, (Answer, BatchAnswer), "The answer; for several pictures, the answers"),
    Format(
        FHIR_JSON,
        description="FHIR R4 `DiagnosticReport`, for several pictures a `Bundle`",
        error_form=fhir.ERROR_FORM,
        aliases=fhir.ALIASES,
        parameters=(("fhirVersion", fhir.VERSION),),
        standard=fhir.MEDIA_TYPES,
    ),
)
