"""Asks a service as programs with Triton's client do, with its defaults: tensors as bytes, in both directions.

Runs in an environment with tritonclient: ``triton_client.py URL PICTURE PIXELS``; prints the labels, probabilities and
decisions of each request as JSON. PIXELS is a file of NumPy with ``(n, side, side, 3)`` uint8.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton

MODEL = "skin-lesion"


def asked(client: triton.InferenceServerClient, name: str, values: np.ndarray, kind: str, **options: object) -> dict:
    """Return the outputs of one request; ``options``: ``binary``, or of `infer`."""
    tensor = triton.InferInput(name, list(values.shape), kind)
    tensor.set_data_from_numpy(values, **({"binary_data": False} if options.pop("json", False) else {}))
    result = client.infer(MODEL, [tensor], **options)
    named = [output["name"] for output in result.get_response()["outputs"]]
    texts = {name: [text(each) for each in result.as_numpy(name).ravel()] for name in ("label", "decision")}
    probabilities = result.as_numpy("probabilities")
    assert probabilities.dtype == np.float32
    return {"outputs": named, "probabilities": probabilities.tolist(), **texts}


def text(value: str | bytes) -> str:
    """Return an element of BYTES: the client leaves it as bytes where it came as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def main(url: str, picture: bytes, levels: np.ndarray) -> dict:
    """Return the answers to each request by name."""
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert [each["name"] for each in client.get_model_metadata(MODEL)["inputs"]] == ["images", "files"]
    shares = levels / np.float32(255)
    files, texts = np.array([picture], np.object_), np.array([base64.encodebytes(picture)], np.object_)
    chosen = [triton.InferRequestedOutput(name) for name in ("label", "decision", "probabilities")]
    as_json = [triton.InferRequestedOutput(name, binary_data=False) for name in ("label", "decision", "probabilities")]
    found = {
        "UINT8": asked(client, "images", levels, "UINT8"),
        "INT64": asked(client, "images", levels.astype(np.int64), "INT64"),
        "FP16": asked(client, "images", shares.astype(np.float16), "FP16"),
        "FP32": asked(client, "images", shares, "FP32", outputs=chosen),
        "FP64": asked(client, "images", shares.astype(np.float64), "FP64", outputs=as_json),
        "FP32 in JSON": asked(client, "images", shares, "FP32", json=True),
        "gzip": asked(client, "images", levels, "UINT8", request_compression_algorithm="gzip"),
        "deflate": asked(client, "images", levels, "UINT8", request_compression_algorithm="deflate"),
        "named": asked(client, "images", levels, "UINT8", request_id="7", model_version="local", priority=1),
        "files": asked(client, "files", files, "BYTES"),
        "files [n, 1]": asked(client, "files", files[:, None], "BYTES"),
        "texts": asked(client, "files", texts, "BYTES"),
        "texts in JSON": asked(client, "files", texts, "BYTES", json=True),
    }
    try:
        asked(client, "files", np.array([b"no picture"], np.object_), "BYTES")
    except triton.InferenceServerException as error:
        found["error"] = error.message()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], Path(sys.argv[2]).read_bytes(), np.load(sys.argv[3]))))
