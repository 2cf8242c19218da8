"""The input tensors of the Open Inference Protocol: pictures as pixels or as files, in JSON or as bytes after it.

As the protocol asks, members that it does not know are ignored, and a member that is null counts as absent.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from buckler.error_codes import ErrorCode
from buckler.modality.base import Shape
from services.classifier.contract import RefusalError
from services.classifier.interfaces import binary_tensors
from services.classifier.interfaces.binary_tensors import Binary
from services.classifier.requests import Picture

PIXELS, FILES, BYTES = "images", "files", "BYTES"  # the two inputs, of which a request has one
# Of numbers, the datatype alone states the scale: the values of a dark picture do not tell 0..255 from 0..65535.
BRIGHTEST = {
    **dict.fromkeys(("FP16", "BF16", "FP32", "FP64"), 1),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32", "UINT64", "INT16", "INT32", "INT64"), 255),
}
SCALES = "floating-point numbers in 0..1, or unsigned, 16-, 32- or 64-bit integers in 0..255"


class RequestInput(BaseModel):
    """An input tensor; ``data`` is flat or nested, in row-major order, and absent if it follows as bytes."""

    name: Literal["images", "files"]
    shape: list[int] = Field(min_length=1, max_length=4)
    datatype: str = Field(
        description=f"`BYTES` for `files`; for `images` {', '.join(BRIGHTEST)}: {SCALES}",
        max_length=16,
    )
    parameters: dict[str, Any] | None = Field(
        default=None, description="`binary_data_size`: length of the tensor in bytes after the JSON"
    )
    data: list[Any] | None = None


class RequestedOutput(BaseModel):
    """A requested output; a request without outputs gets all."""

    name: str
    parameters: dict[str, Any] | None = Field(default=None, description="`binary_data`: whether it is sent as bytes")


class InferRequest(BaseModel):
    """An inference request."""

    id: str | None = Field(default=None, max_length=256)
    parameters: dict[str, Any] | None = Field(
        default=None, description="`binary_data_output`: whether outputs are sent as bytes where they do not say it"
    )
    inputs: list[RequestInput] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] | None = None


@dataclass(frozen=True, slots=True)
class Tensors:
    """The parsed body of an inference request.

    Attributes:
        id: The client's name of the request.
        outputs: Names of the requested outputs, each with whether it is sent as bytes.
        files: The files; None if pixels were sent.
        pixels: The pixels ``(n, side, side, 3)`` in 0..1; None if files were sent.
    """

    id: str | None
    outputs: dict[str, bool]
    files: tuple[bytes, ...] | None
    pixels: NDArray[np.float32] | None

    @classmethod
    def parse(cls, body: bytes, most: int, known: Sequence[str], json_length: str | None = None) -> "Tensors":
        """Parse a request's body.

        Args:
            body: JSON, and after it the tensors that are sent as bytes.
            most: Largest number of pictures.
            known: Names of the outputs.
            json_length: The header that states the length of the JSON; None without one: the body is JSON alone.

        Raises:
            RefusalError: ``body_malformed``, ``tensor_invalid`` or ``too_many_pictures``; no message quotes the body.
        """
        text, rest = binary_tensors.split(body, json_length)
        try:
            request = InferRequest.model_validate_json(text)
        except ValidationError as error:
            raise _refused(error) from None
        (tensor,) = request.inputs
        count = tensor.shape[0]
        if count < 1:
            raise _invalid("expected a tensor of at least one picture")
        if count > most:
            raise RefusalError(ErrorCode.TOO_MANY_PICTURES, f"expected at most {most} pictures, got more")
        raw = _raw(tensor, rest)
        outputs = _outputs(request, known)
        if tensor.name == FILES:
            return cls(request.id, outputs, _files(tensor, raw), None)
        return cls(request.id, outputs, None, _pixels(tensor, raw))

    def pictures(self, shape: Shape) -> Sequence[Picture]:
        """Return the pictures for a model whose input has ``shape``.

        Raises:
            RefusalError: ``tensor_invalid``: the values have another shape.
        """
        if self.pixels is None:
            return self.files or ()
        if self.pixels.shape[1:] != shape:
            raise _invalid(f"expected the shape [n, {', '.join(map(str, shape))}], got {[*self.pixels.shape]}")
        return list(self.pixels)


def _refused(error: ValidationError) -> RefusalError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return RefusalError(ErrorCode.BODY_MALFORMED, "the body is not JSON")
    # Only field names of the schema and positions; keys that the client invented are omitted.
    known = InferRequest.model_fields.keys() | RequestInput.model_fields.keys()
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in known)
    return _invalid(f"{place or 'the request'}: {first['msg']}")


def _invalid(message: str) -> RefusalError:
    return RefusalError(ErrorCode.TENSOR_INVALID, message)


def _raw(tensor: RequestInput, rest: Binary) -> Binary | None:
    """Return the bytes of the tensor; None if it is in the JSON."""
    size = (tensor.parameters or {}).get(binary_tensors.SIZE)
    if (size is None) == (tensor.data is None):
        raise _invalid(f"expected either data or the parameter {binary_tensors.SIZE} in the input")
    if size is not None and (type(size) is not int or size < 0):
        raise _invalid(f"expected {binary_tensors.SIZE} as a number of bytes")
    if len(rest) != (size or 0):
        raise RefusalError(
            ErrorCode.BODY_MALFORMED,
            f"expected as many bytes after the JSON as {binary_tensors.SIZE} says, got {len(rest)};"
            f" {binary_tensors.HEADER} states where the JSON ends",
        )
    return None if size is None else rest


def _outputs(request: InferRequest, known: Sequence[str]) -> dict[str, bool]:
    """Return whether each output is sent as bytes."""
    default = (request.parameters or {}).get("binary_data_output") is True
    if not request.outputs:
        return dict.fromkeys(known, default)
    if unknown := {output.name for output in request.outputs} - set(known):
        raise _invalid(f"expected outputs from {', '.join(known)}; {len(unknown)} are unknown")
    return {each.name: (each.parameters or {}).get("binary_data", default) is True for each in request.outputs}


def _files(tensor: RequestInput, raw: Binary | None) -> tuple[bytes, ...]:
    count = tensor.shape[0]
    if tensor.datatype != BYTES or tensor.shape not in ([count], [count, 1]):
        raise _invalid(f"expected '{FILES}' as BYTES of the shape [n] or [n, 1]")
    if raw is not None:
        files = binary_tensors.elements(raw, count)
        # A program that keeps its files as base64 sends this text; no picture consists of these characters alone.
        return tuple(_file(each) or each for each in files)
    texts = _unnested(tensor.data or [])
    if len(texts) != count or not all(isinstance(each, str) for each in texts):
        raise _invalid(f"expected '{FILES}' with {count} strings in its data")
    decoded = [_file(each) for each in texts]
    if None in decoded:
        raise _invalid(f"expected each of '{FILES}' as a string with a file in base64")
    return tuple(each for each in decoded if each is not None)


def _file(text: str | bytes) -> bytes | None:
    """Return the file that is written as base64, also in lines as openssl and MIME write it; None if it is not."""
    try:
        return base64.b64decode(type(text)().join(text.split()), validate=True)  # type: ignore[arg-type]
    except (ValueError, binascii.Error):
        return None


def _pixels(tensor: RequestInput, raw: Binary | None) -> NDArray[np.float32]:
    brightest = BRIGHTEST.get(tensor.datatype)
    if brightest is None or len(tensor.shape) < 2 or min(tensor.shape) < 1:
        raise _invalid(f"expected '{PIXELS}' of the shape in the model's metadata, as one of {', '.join(BRIGHTEST)}")
    count = math.prod(tensor.shape)
    values = _listed(tensor, count) if raw is None else binary_tensors.numbers(raw, tensor.datatype, count)
    # This form of the comparison rejects NaN too.
    in_range = values.min() >= 0 and values.max() <= brightest
    if not in_range or (brightest > 1 and (values % 1).any()):
        scale = "pixels in 0..1" if brightest == 1 else "pixels as whole numbers in 0..255"
        raise _invalid(f"expected {scale}; '{PIXELS}' has {SCALES}")
    return (values / brightest).astype(np.float32).reshape(tensor.shape)


def _listed(tensor: RequestInput, count: int) -> NDArray[np.float64]:
    """Return the numbers of a tensor in JSON.

    They are checked before NumPy gets them: among texts, it would give each number the room of the longest text, so
    that 50 kB take 800 MB.
    """
    numbers = _unnested(tensor.data or [])
    if not set(map(type, numbers)) <= {int, float}:
        raise _invalid(f"expected only numbers in '{PIXELS}', in lists of equal length")
    if len(numbers) != count:
        raise _invalid(f"expected as many numbers as the shape has, got {len(numbers)}")
    try:
        return np.array(numbers, np.float64)
    except OverflowError:
        raise _invalid(f"expected {SCALES}") from None


def _unnested(data: list[Any]) -> list[Any]:
    """Return the elements of nested lists of equal length."""
    while set(map(type, data)) == {list}:
        if len(set(map(len, data))) > 1:
            break
        data = list(chain.from_iterable(data))
    return data
