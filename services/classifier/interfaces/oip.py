"""The Open Inference Protocol, version 2, over REST: takes pictures as tensors or files, answers with tensors.

Every response states the decision, even to a client that requests only probabilities: in ``parameters`` for all
pictures together, and in separate outputs for each picture.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from buckler.error_codes import ErrorCode
from buckler.modality.picture.images import CHANNELS
from services.classifier.contract import Answer, ErrorForm, RefusalError
from services.classifier.interfaces.bodies import JSON
from services.classifier.interfaces.openapi import version
from services.classifier.requests import Call, Picture
from services.classifier.routing import Format

if TYPE_CHECKING:
    from services.classifier.served import Served

PLATFORM = "buckler"
PIXELS, FILES = "images", "files"  # the two inputs, of which a request has one
BINARY_HEADER = "inference-header-content-length"


DESCRIPTION = """Takes either `images`, FP32 in 0..1 with the side that the model's metadata states, or `files`, \
BYTES: JPEG, PNG or DICOM in base64; up to {batch_limit} pictures. The outputs have `decision`, `reasons` and \
`detector_score` of each picture, `parameters` the same of all pictures together. An unusable picture refuses the \
whole request."""


class RequestInput(BaseModel):
    """An input tensor; ``data`` is flat or nested, in row-major order."""

    name: Literal["images", "files"]
    shape: list[int] = Field(min_length=1, max_length=4)
    datatype: Literal["FP32", "BYTES"]
    parameters: dict[str, Any] = {}
    data: list[Any]


class RequestedOutput(BaseModel):
    """A requested output; a request without outputs gets all."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """An inference request."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(default=None, max_length=256)
    parameters: dict[str, Any] = {}
    inputs: list[RequestInput] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = []


class Tensor(BaseModel):
    """Name, type and shape of a tensor."""

    name: str
    datatype: str
    shape: list[int]


class OutputTensor(Tensor):
    """A tensor with its values in a flat list."""

    data: list[Any]


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
    side, classes = served.predictor.image_size, len(served.predictor.labels)
    shapes = {"probabilities": [-1, classes]}
    return ModelMetadata(
        name=served.name,
        versions=[served.version],
        platform=PLATFORM,
        inputs=[
            Tensor(name=PIXELS, datatype="FP32", shape=[-1, side, side, CHANNELS]),
            Tensor(name=FILES, datatype="BYTES", shape=[-1]),
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


@dataclass(frozen=True, slots=True)
class Tensors:
    """The parsed body of an inference request.

    Attributes:
        request: The body.
        files: The files; None if pixels were sent.
        pixels: The pixels ``(n, side, side, 3)`` in 0..1; None if files were sent.
    """

    request: InferRequest
    files: tuple[bytes, ...] | None
    pixels: np.ndarray[Any, np.dtype[np.float32]] | None

    @classmethod
    def parse(cls, body: bytes, most: int) -> "Tensors":
        """Parse a request's body.

        Args:
            body: JSON.
            most: Largest number of pictures.

        Raises:
            RefusalError: ``body_malformed``, ``tensor_invalid`` or ``too_many_pictures``; no message quotes the body.
        """
        try:
            request = InferRequest.model_validate_json(body)
        except ValidationError as error:
            raise _refused(error) from None
        (tensor,) = request.inputs
        count = tensor.shape[0]
        if count < 1:
            raise _invalid("expected a tensor of at least one picture")
        if count > most:
            raise RefusalError(ErrorCode.TOO_MANY_PICTURES, f"expected at most {most} pictures, got more")
        if unknown := {output.name for output in request.outputs} - set(OUTPUTS):
            raise _invalid(f"expected outputs from {', '.join(OUTPUTS)}; {len(unknown)} are unknown")
        if tensor.name == FILES:
            return cls(request, _files(tensor), None)
        return cls(request, None, _pixels(tensor))

    def pictures(self, side: int) -> Sequence[Picture]:
        """Return the pictures for a model whose input has sides of ``side`` pixels.

        Raises:
            RefusalError: ``tensor_invalid``: the pixels have another shape.
        """
        if self.pixels is None:
            return self.files or ()
        if self.pixels.shape[1:] != (side, side, CHANNELS):
            raise _invalid(
                f"expected the shape [n, {side}, {side}, {CHANNELS}], got {[*self.pixels.shape]}",
            )
        return list(self.pixels)


async def infer(call: Call) -> Response:
    """Answer an inference request, which is refused if one of its pictures is unusable.

    Raises:
        RefusalError: The request is refused; of several pictures, the message states the number of the unusable one.
    """
    if BINARY_HEADER in call.headers:
        raise RefusalError(ErrorCode.MEDIA_TYPE_UNSUPPORTED, f"expected {JSON} without binary tensors")
    settings = call.pipeline.settings
    parse = partial(Tensors.parse, call.files[0], settings.batch_limit)
    tensors = await call.pipeline.parsing.run(parse, seconds=settings.decode_timeout_seconds)
    served = call.ready()
    check_model(call.path, served)
    pictures = tensors.pictures(served.predictor.image_size)
    answers: list[Answer] = []
    async for each in call.answers(served, pictures):
        if isinstance(each, RefusalError):
            raise _numbered(each, len(answers) + 1, len(pictures))
        answers.append(each.answer)
    response = InferResponse(
        model_name=served.name,
        model_version=served.version,
        id=tensors.request.id,
        parameters=_parameters(answers),
        outputs=_outputs(answers, [output.name for output in tensors.request.outputs]),
    )
    return JSONResponse(response.model_dump(mode="json"))


def _refused(error: ValidationError) -> RefusalError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return RefusalError(ErrorCode.BODY_MALFORMED, "the body is not JSON")
    # Only field names of the schema and positions; keys that the client invented are omitted.
    known = InferRequest.model_fields.keys() | RequestInput.model_fields.keys()
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in known)
    problem = first["msg"] if first["type"] != "extra_forbidden" else "unknown field"
    return _invalid(f"{place or 'the request'}: {problem}")


def _invalid(message: str) -> RefusalError:
    return RefusalError(ErrorCode.TENSOR_INVALID, message)


def _files(tensor: RequestInput) -> tuple[bytes, ...]:
    if tensor.datatype != "BYTES" or tensor.shape != [len(tensor.data)]:
        raise _invalid(f"expected '{FILES}' as BYTES of the shape [n] with n strings in its data")
    try:
        return tuple(base64.b64decode(text, validate=True) for text in tensor.data)
    except (TypeError, ValueError, binascii.Error):
        raise _invalid(f"expected each of '{FILES}' as a string with a file in base64") from None


def _pixels(tensor: RequestInput) -> np.ndarray[Any, np.dtype[np.float32]]:
    if tensor.datatype != "FP32" or len(tensor.shape) != 4 or min(tensor.shape) < 1:
        raise _invalid(f"expected '{PIXELS}' as FP32 of the shape [n, side, side, 3]")
    numbers = _flat(tensor.data)
    if len(numbers) != math.prod(tensor.shape):
        raise _invalid(f"expected as many numbers as the shape has, got {len(numbers)}")
    try:
        values = np.array(numbers, np.float64)
    except OverflowError:
        raise _invalid("expected pixels in 0..1") from None
    if not (values.min() >= 0 and values.max() <= 1):  # this form of the comparison rejects NaN too
        raise _invalid("expected pixels in 0..1")
    return values.astype(np.float32).reshape(tensor.shape)


def _flat(data: list[Any]) -> list[int | float]:
    """Return the numbers of nested lists.

    Checked before NumPy gets them: among texts, it would give each number the room of the longest text, so that 50 kB
    take 800 MB.
    """
    while set(map(type, data)) == {list}:
        if len(set(map(len, data))) > 1:
            break
        data = list(chain.from_iterable(data))
    if not set(map(type, data)) <= {int, float}:
        raise _invalid(f"expected only numbers in '{PIXELS}', in lists of equal length")
    return data


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


def _outputs(answers: Sequence[Answer], requested: Sequence[str]) -> list[OutputTensor]:
    outputs = []
    for name in requested or OUTPUTS:
        datatype, values = OUTPUTS[name]
        rows = [values(answer) for answer in answers]
        shape = [len(rows), len(rows[0])] if name == "probabilities" else [len(rows)]
        data = [value for row in rows for value in row]
        outputs.append(OutputTensor(name=name, datatype=datatype, shape=shape, data=data))
    return outputs


ERROR_FORM = ErrorForm(JSON, lambda refusal: {"error": f"{refusal.code}: {refusal.detail}"}, OipError)


def gives(*models: type[BaseModel]) -> tuple[Format]:
    """Return the format of answers with the protocol's form of errors."""
    return (Format(JSON, models, error_form=ERROR_FORM),)


async def server_metadata(_: Call) -> Response:
    """Return name and version of the server."""
    return _json(ServerMetadata(name=PLATFORM, version=version(), extensions=[]))


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
