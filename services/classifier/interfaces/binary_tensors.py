"""Tensors as bytes after the JSON, which tritonclient sends and expects by default.

Source: https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError

HEADER = "Inference-Header-Content-Length"
SIZE = "binary_data_size"
EXTENSION = "binary_tensor_data"  # its name in the server's metadata
MEDIA_TYPE = "application/octet-stream"
FORMATS = {
    "FP16": "<f2",
    "BF16": "<u2",
    "FP32": "<f4",
    "FP64": "<f8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
}
_LENGTH = struct.Struct("<I")

Binary = memoryview


def split(body: bytes, json_length: str | None) -> tuple[bytes, Binary]:
    """Return the JSON of a body and the bytes after it.

    Args:
        body: The whole body.
        json_length: The header `HEADER`; None if the request has none.

    Raises:
        RefusalError: ``body_malformed``.
    """
    if json_length is None:
        return body, memoryview(b"")
    digits = json_length if json_length.isascii() and json_length.isdecimal() and len(json_length) < 16 else "-1"
    if not 0 < int(digits) <= len(body):
        raise _malformed(f"expected {HEADER} as one number of bytes, at most the length of the body")
    return body[: int(digits)], memoryview(body)[int(digits) :]


def elements(raw: Binary, count: int) -> list[bytes]:
    """Return the ``count`` elements of a tensor of BYTES, each after its length in four bytes.

    Raises:
        RefusalError: ``body_malformed``.
    """
    found, place = [], 0
    for _ in range(count):
        start = place + _LENGTH.size
        if start > len(raw) or (end := start + _LENGTH.unpack_from(raw, place)[0]) > len(raw):
            raise _malformed("expected each element of BYTES after its length in four bytes, got too few bytes")
        found.append(bytes(raw[start:end]))
        place = end
    if place != len(raw):
        raise _malformed(f"expected {count} elements of BYTES as the shape says, got more")
    return found


def numbers(raw: Binary, datatype: str, count: int) -> NDArray[np.float64]:
    """Return the ``count`` little-endian numbers of a tensor.

    Raises:
        RefusalError: ``body_malformed``: the bytes have another number of them.
    """
    form = np.dtype(FORMATS[datatype])
    if len(raw) != count * form.itemsize:
        raise _malformed(f"expected {form.itemsize} bytes for each number of the shape, got {len(raw)} in all")
    values = np.frombuffer(raw, form)
    if datatype == "BF16":  # the upper half of a float32
        values = (values.astype("<u4") << 16).view("<f4")
    return values.astype(np.float64)


def encoded(datatype: str, values: Sequence[Any]) -> bytes:
    """Return a tensor as bytes."""
    if datatype in FORMATS:
        return np.array(values, FORMATS[datatype]).tobytes()
    texts = [text.encode() for text in values]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def _malformed(message: str) -> RefusalError:
    return RefusalError(ErrorCode.BODY_MALFORMED, message)
