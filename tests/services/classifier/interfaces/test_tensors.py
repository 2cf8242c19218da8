"""The body of an inference request, parsed without a server."""

import json
import tracemalloc

import numpy as np
import pytest

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError
from services.classifier.interfaces.oip import Tensors


def body(data: list) -> bytes:
    tensor = {"name": "images", "shape": [1, 2, 2, 3], "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.mark.parametrize("data", [[0, 1, 0.5] * 4, [[[[0, 1, 0.5]] * 2] * 2]])
def test_flat_and_nested_numbers_give_the_same_pixels(data: list):
    (picture,) = Tensors.parse(body(data), 1).pictures(2)
    np.testing.assert_array_equal(picture, np.array([0, 1, 0.5] * 4, np.float32).reshape(2, 2, 3))


def test_a_text_among_numbers_takes_no_more_memory_than_the_request():
    content = body(["x" * 20_000, *[0] * 10_000])
    tracemalloc.start()
    try:
        with pytest.raises(RefusalError) as caught:
            Tensors.parse(content, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code is ErrorCode.TENSOR_INVALID
    assert peak < 10_000_000  # NumPy would give each number the room of the text: 800 MB
