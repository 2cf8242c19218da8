"""The body of an inference request, parsed without a server."""

import base64
import json
import struct
import tracemalloc

import numpy as np
import pytest

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError
from services.classifier.interfaces.oip import OUTPUTS
from services.classifier.interfaces.tensors import Tensors
from tests.forms import square

LEVELS = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3) * 23
FILES = [b"\xff\xd8 first", b"", b"\x89PNG third"]


def body(data: object, **changes: object) -> bytes:
    tensor = {"name": "images", "shape": [1, 2, 2, 3], "datatype": "FP32", "data": data, **changes}
    return json.dumps({"inputs": [tensor]}).encode()


def files(data: object, shape: list[int]) -> bytes:
    return body(data, name="files", datatype="BYTES", shape=shape)


def parse(content: bytes, json_length: str | None = None, most: int = 8) -> Tensors:
    return Tensors.parse(content, most, tuple(OUTPUTS), json_length)


def parse_bytes(content: bytes, **changes: object) -> Tensors:
    """Parse a tensor whose bytes follow the JSON."""
    head = body(None, **{"parameters": {"binary_data_size": len(content)}, **changes})
    return parse(head + content, str(len(head)))


def refused(parsing, *arguments: object, **more: object) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        parsing(*arguments, **more)
    return caught.value


@pytest.mark.parametrize("data", [[0, 1, 0.5] * 4, [[[[0, 1, 0.5]] * 2] * 2], [[0, 1, 0.5]] * 4])
def test_flat_and_nested_numbers_give_the_same_pixels(data: list):
    (picture,) = parse(body(data)).pictures(square(2))
    np.testing.assert_array_equal(picture, np.array([0, 1, 0.5] * 4, np.float32).reshape(2, 2, 3))


INTEGERS = {"UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8"}
INTEGERS |= {"INT16": "<i2", "INT32": "<i4", "INT64": "<i8"}


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_are_levels_of_8_bits(datatype: str):
    expected = LEVELS / np.float32(255)
    values = LEVELS.astype(INTEGERS[datatype])
    for parsed in (parse(body(values.tolist(), datatype=datatype)), parse_bytes(values.tobytes(), datatype=datatype)):
        assert parsed.pixels.dtype == np.float32
        np.testing.assert_array_equal(parsed.pixels, expected)


@pytest.mark.parametrize(("datatype", "form"), [("FP16", "<f2"), ("FP32", "<f4"), ("FP64", "<f8")])
def test_floating_point_numbers_are_pixels_in_0_to_1(datatype: str, form: str):
    values = (LEVELS / 255).astype(form)
    for parsed in (parse(body(values.tolist(), datatype=datatype)), parse_bytes(values.tobytes(), datatype=datatype)):
        np.testing.assert_array_equal(parsed.pixels, values.astype(np.float32))


def test_bf16_is_the_upper_half_of_fp32():
    values = (np.array([0, 0.5, 1, 0.25] * 3, "<f4").view("<u4") >> 16).astype("<u2")
    np.testing.assert_array_equal(parse_bytes(values.tobytes(), datatype="BF16").pixels.ravel(), [0, 0.5, 1, 0.25] * 3)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("FP32", [255.0] * 12),
        ("FP32", [-0.01] * 12),
        ("FP16", [float("nan")] * 12),
        ("FP64", [float("inf")] * 12),
        ("UINT16", [256] * 12),
        ("INT32", [-1] * 12),
    ],
)
def test_numbers_out_of_the_range_of_their_datatype_are_refused(datatype: str, values: list):
    form = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", **INTEGERS}[datatype]
    for fault in (
        refused(parse, body(values, datatype=datatype)),
        refused(parse_bytes, np.array(values, form).tobytes(), datatype=datatype),
    ):
        assert fault.code is ErrorCode.TENSOR_INVALID
        assert "0..255" in fault.detail


def test_a_fraction_is_no_level():
    assert "whole numbers" in refused(parse, body([0.5] * 12, datatype="UINT8")).detail


@pytest.mark.parametrize("datatype", ["INT8", "BOOL", "BYTES", "FP8", ""])
def test_other_datatypes_are_refused_with_the_list(datatype: str):
    assert "FP32" in refused(parse, body([0] * 12, datatype=datatype)).detail


@pytest.mark.parametrize("shape", [[3], [3, 1]])
@pytest.mark.parametrize("write", [base64.b64encode, base64.encodebytes])
def test_files_are_read_from_base64_with_and_without_line_breaks(write, shape: list[int]):
    texts = [write(each).decode() for each in FILES]
    windows = [text.replace("\n", "\r\n") for text in texts]
    for data in (texts, windows, [[text] for text in texts]):
        assert parse(files(data, shape)).files == tuple(FILES)


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_files_after_the_json_are_the_files_themselves_or_their_base64(shape: list[int]):
    for contents in (FILES, [base64.encodebytes(each) for each in FILES]):
        raw = b"".join(struct.pack("<I", len(each)) + each for each in contents)
        assert parse_bytes(raw, name="files", datatype="BYTES", shape=shape).files == tuple(FILES)


@pytest.mark.parametrize("shape", [[1, 3], [3, 1, 1], [2], [4, 1]])
def test_files_of_another_shape_are_refused(shape: list[int]):
    texts = [base64.b64encode(each).decode() for each in FILES]
    assert refused(parse, files(texts, shape)).code is ErrorCode.TENSOR_INVALID


@pytest.mark.parametrize("text", ["GEHEIM!", "AAA", "data:image/jpeg;base64,AAAA", "=AAAA", "AA\u00a0\u00e9A"])
def test_a_text_that_is_no_base64_is_refused_and_not_quoted(text: str):
    fault = refused(parse, files([text], [1]))
    assert (fault.code, text in fault.detail) == (ErrorCode.TENSOR_INVALID, False)


@pytest.mark.parametrize(
    "raw", [b"", b"\1\0\0", b"\2\0\0\0x", b"\xff\xff\xff\xffxy", b"\1\0\0\0xy", b"\1\0\0\0x\0\0\0\0"]
)
def test_elements_that_do_not_fill_their_bytes_are_refused(raw: bytes):
    fault = refused(parse_bytes, raw, name="files", datatype="BYTES", shape=[1])
    assert fault.code is ErrorCode.BODY_MALFORMED


def test_numbers_that_do_not_fill_their_bytes_are_refused():
    for size in (0, 11, 13, 24):
        assert refused(parse_bytes, bytes(size), datatype="UINT8").code is ErrorCode.BODY_MALFORMED


@pytest.mark.parametrize("json_length", ["", "0", "-1", "+3", "1e3", "x", "9" * 5000, "٣", "12, 12", "999999"])
def test_a_length_of_the_json_that_two_programs_could_read_differently_is_refused(json_length: str):
    fault = refused(parse, body([0] * 12), json_length)
    assert fault.code is ErrorCode.BODY_MALFORMED
    assert "Inference-Header-Content-Length" in fault.detail


def test_bytes_that_no_input_states_are_refused():
    head = body([0] * 12)
    assert refused(parse, head + b"more", str(len(head))).code is ErrorCode.BODY_MALFORMED
    assert refused(parse, head + b"more").code is ErrorCode.BODY_MALFORMED


@pytest.mark.parametrize("size", [-1, 1.5, "12", True, [12]])
def test_a_size_that_is_no_number_of_bytes_is_refused(size: object):
    parameters = {"binary_data_size": size}
    assert refused(parse_bytes, bytes(12), datatype="UINT8", parameters=parameters).code is ErrorCode.TENSOR_INVALID


@pytest.mark.parametrize(("data", "parameters"), [(None, None), ([0] * 12, {"binary_data_size": 0})])
def test_an_input_has_its_values_once(data: object, parameters: object):
    assert refused(parse, body(data, parameters=parameters)).code is ErrorCode.TENSOR_INVALID


def test_unknown_members_are_ignored_and_null_ones_are_absent():
    tensor = {"name": "images", "shape": [1, 2, 2, 3], "datatype": "FP32", "data": [0] * 12, "parameters": None}
    request = {"id": None, "model_name": "x", "model_version": None, "raw": {"deep": [1]}, "parameters": None}
    request |= {"inputs": [{**tensor, "content_type": "np"}], "outputs": None}
    parsed = parse(json.dumps(request).encode())
    assert (parsed.id, parsed.outputs) == (None, dict.fromkeys(OUTPUTS, False))


@pytest.mark.parametrize(
    ("parameters", "outputs", "expected"),
    [
        ({}, [{"name": "label"}], {"label": False}),
        ({}, [{"name": "label", "parameters": {"binary_data": True}}, {"name": "decision"}], [True, False]),
        ({"binary_data_output": True}, [{"name": "label"}], {"label": True}),
        ({"binary_data_output": True}, [{"name": "label", "parameters": {"binary_data": False}}], {"label": False}),
        ({"binary_data_output": True}, [], dict.fromkeys(OUTPUTS, True)),
        ({"binary_data_output": "true"}, [{"name": "label", "parameters": {"binary_data": 1}}], {"label": False}),
    ],
)
def test_outputs_are_sent_as_bytes_where_the_request_asks_for_it(parameters: dict, outputs: list, expected: object):
    request = json.loads(body([0] * 12)) | {"parameters": parameters, "outputs": outputs}
    found = parse(json.dumps(request).encode()).outputs
    assert (found if isinstance(expected, dict) else list(found.values())) == expected


def test_a_text_among_numbers_takes_no_more_memory_than_the_request():
    content = body(["x" * 20_000, *[0] * 10_000])
    tracemalloc.start()
    try:
        with pytest.raises(RefusalError) as caught:
            parse(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code is ErrorCode.TENSOR_INVALID
    assert peak < 10_000_000  # NumPy would give each number the room of the text: 800 MB


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_members_are_refused_also_where_they_are_ignored(depth: int):
    deep = b"[" * depth + b"]" * depth
    content = body([0] * 12)[:-1] + b', "unknown": ' + deep + b"}"
    if depth < 200:
        assert parse(content).pixels is not None
    else:
        assert refused(parse, content).code is ErrorCode.BODY_MALFORMED
    assert refused(parse, body([0] * 12).replace(b"[0", b"[" + deep + b", 0", 1)).code in (
        ErrorCode.BODY_MALFORMED,
        ErrorCode.TENSOR_INVALID,
    )
