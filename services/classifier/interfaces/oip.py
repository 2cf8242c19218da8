"""The Open Inference Protocol, version 2, over REST: takes pictures as tensors or files, answers with tensors.

Every response states the decision, even to a client that requests only probabilities: in ``parameters`` for all
pictures together, and in separate outputs for each picture.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from buckler.error_codes import ErrorCode
from services.classifier.contract import Answer, ErrorForm, RefusalError
from services.classifier.interfaces import binary_tensors
from services.classifier.interfaces.bodies import JSON, WholeBody, json_of
from services.classifier.interfaces.openapi import version
from services.classifier.interfaces.tensors import BYTES, FILES, PIXELS, InferRequest, Tensors
from services.classifier.requests import Call
from services.classifier.routing import Body, Format

if TYPE_CHECKING:
    from services.classifier.served import Served

PLATFORM = "buckler"

DESCRIPTION = """Takes either `images`, pixels with the side that the model's metadata states, or `files`, BYTES: the \
same pictures as `/predict`, in base64; up to {batch_limit}. Pixels are floating-point numbers in 0..1 (FP32, FP64, \
FP16, BF16) or integers in 0..255 (UINT8 and others). Tensors may follow the JSON as bytes, files then as they are, \
as the binary tensor data extension says: the header `Inference-Header-Content-Length` has the length of the JSON. \
The outputs have `decision`, `reasons` and `detector_score` of each picture, `parameters` the same of all pictures \
together. An unusable picture refuses the whole request."""
TAKES = (json_of(InferRequest), Body(binary_tensors.MEDIA_TYPE, WholeBody))


class Tensor(BaseModel):
    """Name, type and shape of a tensor."""

    name: str
    datatype: str
    shape: list[int]


class OutputTensor(Tensor):
    """A tensor with its values in a flat list, or as ``binary_data_size`` bytes after the JSON."""

    parameters: dict[str, int] | None = Field(default=None, exclude_if=lambda value: value is None)
    data: list[Any] | None = Field(default=None, exclude_if=lambda value: value is None)


class InferResponse(BaseModel):
    """An inference response."""

    model_name: str
    model_version: str
    id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    parameters: dict[str, str | float | bool]
    outputs: list[OutputTensor]


class ModelMetadata(BaseModel):
    """Inputs and outputs of the model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ServerMetadata(BaseModel):
    """Name and version of the server."""

    name: str
    version: str
    extensions: list[str]


class OipError(BaseModel):
    """An error: one text, as the protocol requires, that begins with the code."""

    error: str


class ServerStatus(BaseModel):
    """Whether the server runs and is ready."""

    live: bool
    ready: bool | None = Field(default=None, exclude_if=lambda value: value is None)


class ModelStatus(BaseModel):
    """Whether a model answers predictions."""

    name: str
    ready: bool


def metadata(served: "Served") -> ModelMetadata:
    """Return the metadata of the live model; -1 stands for the number of pictures."""
    shape, classes = served.predictor.form.shape, len(served.predictor.labels)
    shapes = {"probabilities": [-1, classes]}
    return ModelMetadata(
        name=served.name,
        versions=[served.version],
        platform=PLATFORM,
        inputs=[
            Tensor(name=PIXELS, datatype="FP32", shape=[-1, *shape]),
            Tensor(name=FILES, datatype=BYTES, shape=[-1]),
        ],
        outputs=[Tensor(name=name, datatype=kind, shape=shapes.get(name, [-1])) for name, (kind, _) in OUTPUTS.items()],
    )


def check_model(named: Mapping[str, str], served: "Served") -> None:
    """Check that a path names the live model.

    Args:
        named: ``name`` and, if the path has one, ``version``.
        served: The live model.

    Raises:
        RefusalError: ``model_unknown``.
    """
    if named.get("name") != served.name or named.get("version", served.version) != served.version:
        raise RefusalError(
            ErrorCode.MODEL_UNKNOWN, f"expected the model {served.name}, version {served.version} or none"
        )


async def infer(call: Call) -> Response:
    """Answer an inference request, which is refused if one of its pictures is unusable.

    Raises:
        RefusalError: The request is refused; of several pictures, the message states the number of the unusable one.
    """
    settings = call.pipeline.settings
    lengths = call.headers.getlist(binary_tensors.HEADER)
    parse = partial(Tensors.parse, call.files[0], settings.batch_limit, tuple(OUTPUTS), ",".join(lengths) or None)
    tensors = await call.pipeline.parsing.run(parse, seconds=settings.decode_timeout_seconds)
    served = call.ready()
    check_model(call.path, served)
    pictures = tensors.pictures(served.predictor.form.shape)
    answers: list[Answer] = []
    async for each in call.answers(served, pictures):
        if isinstance(each, RefusalError):
            raise _numbered(each, len(answers) + 1, len(pictures))
        answers.append(each.answer)
    outputs, binary = _outputs(answers, tensors.outputs)
    response = InferResponse(
        model_name=served.name,
        model_version=served.version,
        id=tensors.id,
        parameters=_parameters(answers),
        outputs=outputs,
    )
    head = _json(response)
    if not binary:
        return head
    length = {binary_tensors.HEADER: str(len(head.body))}
    return Response(bytes(head.body) + binary, headers=length, media_type=binary_tensors.MEDIA_TYPE)


def _numbered(refusal: RefusalError, number: int, of: int) -> RefusalError:
    if of == 1:
        return refusal
    return RefusalError(refusal.code, f"picture {number}: {refusal.detail}")


def _parameters(answers: Sequence[Answer]) -> dict[str, str | float | bool]:
    """Return the parameters of all answers together: ``review`` if one of them needs review."""
    model, detectors = answers[0].model, [answer.detector for answer in answers]
    reasons = sorted({reason for answer in answers for reason in answer.reasons})
    return {
        "decision": "review" if reasons else "accept",
        "reasons": ",".join(reasons),
        "detector_score": max(detector.score for detector in detectors),
        "detector_threshold": detectors[0].threshold,
        "detector_verdict": "adversarial" if any(d.verdict == "adversarial" for d in detectors) else "clean",
        "labels": ",".join(answers[0].probabilities),
        "digest": model.digest,
        "verdict": model.verdict,
    }


# Name -> datatype and values of one answer.
OUTPUTS: dict[str, tuple[str, Callable[[Answer], list[Any]]]] = {
    "probabilities": ("FP32", lambda answer: list(answer.probabilities.values())),
    "label": ("BYTES", lambda answer: [answer.label]),
    "decision": ("BYTES", lambda answer: [answer.decision]),
    "reasons": ("BYTES", lambda answer: [",".join(answer.reasons)]),
    "detector_score": ("FP32", lambda answer: [answer.detector.score]),
    "request_id": ("BYTES", lambda answer: [answer.request_id]),
    "receipt": ("BYTES", lambda answer: [json.dumps(answer.receipt.model_dump()) if answer.receipt else ""]),
}


def _outputs(answers: Sequence[Answer], requested: Mapping[str, bool]) -> tuple[list[OutputTensor], bytes]:
    """Return the requested outputs, and the bytes of those that are sent as bytes."""
    outputs, binary = [], b""
    for name, as_bytes in requested.items():
        datatype, values = OUTPUTS[name]
        rows = [values(answer) for answer in answers]
        shape = [len(rows), len(rows[0])] if name == "probabilities" else [len(rows)]
        tensor = OutputTensor(name=name, datatype=datatype, shape=shape)
        data = [value for row in rows for value in row]
        if as_bytes:
            encoded = binary_tensors.encoded(datatype, data)
            tensor.parameters, binary = {binary_tensors.SIZE: len(encoded)}, binary + encoded
        else:
            tensor.data = data
        outputs.append(tensor)
    return outputs, binary


ERROR_FORM = ErrorForm(JSON, lambda refusal: {"error": f"{refusal.code}: {refusal.detail}"}, OipError)


def gives(*models: type[BaseModel]) -> tuple[Format]:
    """Return the format of answers with the protocol's form of errors."""
    return (Format(JSON, models, error_form=ERROR_FORM),)


INFERRED = (
    *gives(InferResponse),
    Format(
        binary_tensors.MEDIA_TYPE,
        description="The same, with outputs as bytes after the JSON, where the request asks for them",
        headers=(binary_tensors.HEADER,),
        error_form=ERROR_FORM,
    ),
)


async def server_metadata(_: Call) -> Response:
    """Return name and version of the server."""
    return _json(ServerMetadata(name=PLATFORM, version=version(), extensions=[binary_tensors.EXTENSION]))


async def model_metadata(call: Call) -> Response:
    """Return inputs and outputs of the live model."""
    served = call.live()
    check_model(call.path, served)
    return _json(metadata(served))


async def live(_: Call) -> Response:
    """Answer while the process runs."""
    return _json(ServerStatus(live=True))


async def ready(call: Call) -> Response:
    """Answer 200 if a model answers predictions."""
    call.ready()
    return _json(ServerStatus(live=True, ready=True))


async def model_ready(call: Call) -> Response:
    """Answer 200 if the named model answers predictions."""
    served = call.ready()
    check_model(call.path, served)
    return _json(ModelStatus(name=served.name, ready=True))


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump(mode="json"))
