"""The Open Inference Protocol, version 2, over REST: takes pictures as tensors or files, answers with tensors.

Every response states the decision, even to a client that requests only probabilities: in ``parameters`` for all
pictures together, and in separate outputs for each picture.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import base64
import binascii
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from buckler.modality.picture.images import CHANNELS
from services.classifier.contract import Answer, RefusalError
from services.classifier.requests import Classify, Picture, one_by_one

if TYPE_CHECKING:
    from services.classifier.served import Served

PLATFORM = "buckler"
PIXELS, FILES = "images", "files"  # the two inputs, of which a request has one
# A body of short numbers takes ten times its size as objects, so bodies are parsed one at a time.
_PARSING = threading.Lock()
BINARY_HEADER = "inference-header-content-length"


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
        raise RefusalError("model_unknown", f"expected the model {served.name}, version {served.version} or none")


@dataclass(frozen=True, slots=True)
class OipRequest:
    """An inference request; it is refused if one of its pictures is unusable.

    Attributes:
        named: Model and version in the path.
        request: The parsed body.
        pictures: The files; None if pixels were sent.
        values: The pixels ``(n, side, side, 3)`` in 0..1; None if files were sent.
    """

    named: Mapping[str, str]
    request: InferRequest
    pictures: tuple[bytes, ...] | None
    values: np.ndarray[Any, np.dtype[np.float32]] | None

    @classmethod
    def parse(cls, body: bytes, named: Mapping[str, str], *, most: int) -> "OipRequest":
        """Parse a request's body.

        Args:
            body: JSON.
            named: Model and version in the path.
            most: Largest number of pictures.

        Raises:
            RefusalError: ``body_malformed``, ``tensor_invalid`` or ``too_many_pictures``; no message quotes the body.
        """
        with _PARSING:
            return cls._parse(body, named, most)

    @classmethod
    def _parse(cls, body: bytes, named: Mapping[str, str], most: int) -> "OipRequest":
        try:
            request = InferRequest.model_validate_json(body)
        except ValidationError as error:
            raise _refused(error) from None
        (tensor,) = request.inputs
        count = tensor.shape[0]
        if count < 1:
            raise RefusalError("tensor_invalid", "expected a tensor of at least one picture")
        if count > most:
            raise RefusalError("too_many_pictures", f"expected at most {most} pictures, got {count}")
        if unknown := {output.name for output in request.outputs} - set(OUTPUTS):
            raise RefusalError(
                "tensor_invalid", f"expected outputs from {', '.join(OUTPUTS)}; {len(unknown)} are unknown"
            )
        if tensor.name == FILES:
            return cls(named, request, _files(tensor), None)
        return cls(named, request, None, _pixels(tensor))

    @property
    def count(self) -> int:
        """Number of pictures."""
        return self.request.inputs[0].shape[0]

    def answer(self, classify: Classify, served: "Served", request_id: str) -> Response:
        """Answer all pictures.

        Raises:
            RefusalError: A picture is unusable, with its number in the message; or as ``classify``.
        """
        check_model(self.named, served)
        pictures = self._pictures(served.predictor.image_size)
        answers: list[Answer] = []
        for picture, picture_id in one_by_one(pictures, request_id):
            try:
                answers.append(classify(picture, picture_id))
            except RefusalError as refusal:
                raise _numbered(refusal, len(answers) + 1, self.count) from refusal
        response = InferResponse(
            model_name=served.name,
            model_version=served.version,
            id=self.request.id,
            parameters=_parameters(answers),
            outputs=_outputs(answers, [output.name for output in self.request.outputs]),
        )
        return JSONResponse(response.model_dump(mode="json"))

    def _pictures(self, side: int) -> Sequence[Picture]:
        if self.values is None:
            return self.pictures or ()
        if self.values.shape[1:] != (side, side, CHANNELS):
            raise RefusalError(
                "tensor_invalid", f"expected the shape [n, {side}, {side}, {CHANNELS}], got {[*self.values.shape]}"
            )
        return list(self.values)


def _refused(error: ValidationError) -> RefusalError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return RefusalError("body_malformed", "the body is not JSON")
    # Only field names of the schema and positions; keys that the client invented are omitted.
    known = InferRequest.model_fields.keys() | RequestInput.model_fields.keys()
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in known)
    problem = first["msg"] if first["type"] != "extra_forbidden" else "unknown field"
    return RefusalError("tensor_invalid", f"{place or 'the request'}: {problem}")


def _files(tensor: RequestInput) -> tuple[bytes, ...]:
    if tensor.datatype != "BYTES" or tensor.shape != [len(tensor.data)]:
        raise RefusalError("tensor_invalid", f"expected '{FILES}' as BYTES of the shape [n] with n strings in its data")
    try:
        return tuple(base64.b64decode(text, validate=True) for text in tensor.data)
    except (TypeError, ValueError, binascii.Error):
        raise RefusalError("tensor_invalid", f"expected each of '{FILES}' as a string with a file in base64") from None


def _pixels(tensor: RequestInput) -> np.ndarray[Any, np.dtype[np.float32]]:
    if tensor.datatype != "FP32" or len(tensor.shape) != 4 or min(tensor.shape) < 1:
        raise RefusalError("tensor_invalid", f"expected '{PIXELS}' as FP32 of the shape [n, side, side, 3]")
    try:
        values = np.array(tensor.data).ravel()
    except (TypeError, ValueError, OverflowError):
        values = np.array([""])
    if values.dtype.kind not in "fiu":  # NumPy would also read numbers from strings
        raise RefusalError("tensor_invalid", f"expected only numbers in '{PIXELS}', in lists of equal length")
    if values.size != math.prod(tensor.shape):
        raise RefusalError("tensor_invalid", f"expected {math.prod(tensor.shape)} numbers, got {values.size}")
    if not (values.min() >= 0 and values.max() <= 1):  # this form of the comparison rejects NaN too
        raise RefusalError("tensor_invalid", "expected pixels in 0..1")
    return values.astype(np.float32).reshape(tensor.shape)


def _numbered(refusal: RefusalError, number: int, of: int) -> RefusalError:
    if of == 1 or not refusal.code.startswith("image_"):
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
