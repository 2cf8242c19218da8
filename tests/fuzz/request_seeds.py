"""Valid and nearly valid requests."""

import base64
import json
from typing import Any

import numpy as np

from tests.fuzz.table import Inputs
from tests.picture_bytes import noise, saved
from tests.unit.modality.picture.dicom_files import dicom

SMALL = 12


def _head(line: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [line, "host: 127.0.0.1", *headers, *([f"content-length: {len(body)}"] if body else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def heads_inputs() -> Inputs:
    one = _head("GET /livez HTTP/1.1")
    return {
        "get": one,
        "two": one + _head("HEAD /readyz HTTP/1.1"),
        "length": _head("POST /predict HTTP/1.1", body=b"x\n\r\n\r\n"),
        "chunks": _head("POST /predict HTTP/1.1", "transfer-encoding: chunked")
        + b"3;a=b\r\nx\n\n\r\n0\r\nA: b\r\n\r\n",
        "old": _head("POST /predict HTTP/1.0", body=b"xy"),
        "upgrade": _head("GET /predict HTTP/1.1", "connection: upgrade", "upgrade: websocket"),
        "close": _head("GET /livez HTTP/1.1", "connection: close") + one,
        "expect": _head("POST /predict HTTP/1.1", "expect: 100-continue", body=b"x"),
        "folded": b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n",
        "bare": b"GET / HTTP/1.1\nhost: a\r\n\r\n",
        "absolute": b"GET HTTP://[::1]:3000/livez?a=b HTTP/1.1\r\nhost: a\r\n\r\n",
        "lengths": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
    }


def multipart(*parts: tuple[str, bytes], boundary: str = "b") -> bytes:
    """Return the body of a form with these headers and contents."""
    body = b"".join(f"--{boundary}\r\n{head}\r\n\r\n".encode("latin-1") + content + b"\r\n" for head, content in parts)
    return body + f"--{boundary}--\r\n".encode()


FILE = 'Content-Disposition: form-data; name="image"; filename="Erika.jpg"'
FORM = "multipart/form-data; boundary=b"


def form_inputs() -> Inputs:
    forms = {
        "one": multipart((FILE, b"pixels")),
        "two": multipart((FILE, b"pixels"), (f"{FILE}\r\nContent-Type: image/jpeg", b"\r\n--b\r")),
        "too many": multipart(*[(FILE, b"x")] * 5),
        "text": multipart(('Content-Disposition: form-data; name="image"', b"x")),
        "other": multipart((FILE.replace('"image"', '"other"'), b"x")),
        "star": multipart((FILE.replace("filename=", "filename*=utf-8''"), b"x")),
        "windows": multipart((FILE.replace("Erika", "C:\\\\Erika"), b"x")),
        "empty": b"--b--\r\n",
        "torn": multipart((FILE, b"pixels"))[:-9],
        "before": b"hello\r\n" + multipart((FILE, b"x")),
        "after": multipart((FILE, b"x")) + b"hello\r\n--b\r\n",
        "padding": multipart((FILE, b"x")).replace(b"--b", b"--b \t"),
        "folded": multipart((FILE.replace("; ", ";\r\n\t"), b"x")),
        "star alone": multipart(("Content-Disposition: form-data; name=\"image\"; filename*=UTF-8''%C3%A4", b"x")),
        "semicolons": multipart((f"{FILE};{';' * 200}", b"x")),
    }
    found = {name: f"{FORM}\n".encode() + body for name, body in forms.items()}
    return found | {
        "quoted": b'multipart/form-data; boundary="b c"\n' + multipart((FILE, b"x"), boundary="b c"),
        "none": b"multipart/form-data\n" + multipart((FILE, b"x")),
    }


def _tensor(**changes: object) -> dict[str, Any]:
    tensor = {"name": "images", "shape": [1, 4, 4, 3], "datatype": "FP32", "data": [0.5] * 48}
    return {"inputs": [{**tensor, **changes}]}


def tensors_inputs() -> Inputs:
    file = base64.b64encode(saved(noise(side=4), "PNG")).decode()
    nested = np.zeros((2, 4, 4, 3)).tolist()
    bodies = {
        "flat": _tensor(),
        "nested": _tensor(shape=[2, 4, 4, 3], data=nested),
        "whole numbers": _tensor(data=[0, 1] * 24),
        "files": _tensor(name="files", shape=[2], datatype="BYTES", data=[file, "AAAA"]),
        "outputs": {**_tensor(), "id": "x", "parameters": {"a": 1}, "outputs": [{"name": "label"}, {"name": "other"}]},
        "large shape": _tensor(shape=[1, 10**2000, 10**2000, 10**2000]),
        "text among numbers": _tensor(data=["x" * 50, *[0] * 47]),
        "truth": _tensor(data=[True, 0.5] * 24),
        "ragged": _tensor(data=[[0, 1], [0]]),
        "deep": _tensor(data=json.loads("[" * 70 + "0" + "]" * 70)),
        "no number": _tensor(data=[float("nan"), float("inf")] * 24),
    }
    in_json = {name: json.dumps(body).encode() for name, body in bodies.items()}
    return in_json | {
        "bytes": _with_bytes(bytes(48), datatype="UINT8"),
        "half": _with_bytes(np.full(48, 0.5, "<f2").tobytes(), datatype="FP16"),
        "elements": _with_bytes(b"\x04\0\0\0AAAA", name="files", shape=[1, 1], datatype="BYTES"),
        "torn elements": _with_bytes(b"\xff\xff\xff\xffAAAA", name="files", shape=[1], datatype="BYTES"),
        "lines": json.dumps(_tensor(name="files", shape=[1, 1], datatype="BYTES", data=[["AA\r\nAA\n"]])).encode(),
        "null": json.dumps({**_tensor(parameters=None), "outputs": None, "id": None, "model_name": "x"}).encode(),
    }


def _with_bytes(content: bytes, **changes: object) -> bytes:
    """Return a request whose tensor follows the JSON."""
    request = _tensor(data=None, parameters={"binary_data_size": len(content)}, **changes)
    return json.dumps({**request, "parameters": {"binary_data_output": True}}).encode() + content


def door_inputs() -> Inputs:
    key, operate = "authorization: Bearer bk_predict", "authorization: Bearer bk_operate"
    picture = saved(noise(side=SMALL), "PNG")
    form = multipart((FILE, picture))
    two = multipart((FILE, picture), (FILE, b"no picture"))
    of_form, fhir = f"content-type: {FORM}", "accept: application/fhir+json, application/json;q=0.5"
    tensor = json.dumps(_tensor(shape=[1, 8, 8, 3], data=[0.5] * 192)).encode()
    binary = _with_bytes(bytes(192), datatype="UINT8", shape=[1, 8, 8, 3])
    infer = "POST /v2/models/skin-lesion/infer HTTP/1.1"
    return {
        "predict": _head("POST /predict HTTP/1.1", key, of_form, body=form),
        "two pictures": _head("POST /predict HTTP/1.1", key, of_form, body=two),
        "fhir": _head("POST /predict HTTP/1.1", key, of_form, fhir, body=form),
        "fhir bundle": _head("POST /predict HTTP/1.1", key, of_form, fhir, body=two),
        "fhir error": _head("POST /predict HTTP/1.1", key, of_form, fhir, body=b"--b--\r\n"),
        "file": _head("POST /predict HTTP/1.1", key, "content-type: image/png", body=picture),
        "dicom": _head(
            "POST /predict HTTP/1.1",
            key,
            "content-type: application/dicom",
            body=dicom(np.zeros((4, 4), np.uint8), "MONOCHROME2"),
        ),
        "receipt": _head("POST /predict HTTP/1.1", key, of_form, "x-buckler-receipt: ed25519", body=form),
        "explain": _head("POST /explain?label=benign HTTP/1.1", key, of_form, body=form),
        "explain json": _head("POST /explain HTTP/1.1", key, of_form, "accept: application/json", body=form),
        "tensor": _head(infer, key, body=tensor),
        "binary tensor": _head(infer, key, "inference-header-content-length: 9", body=tensor),
        "binary tensors": _head(
            infer, key, f"inference-header-content-length: {len(binary) - 192}", "accept: */*", body=binary
        ),
        "other model": _head("POST /v2/models/x/versions/9/infer HTTP/1.1", key, body=tensor),
        "metadata": _head("GET /v2/models/skin-lesion HTTP/1.1", key),
        "card": _head("GET /model HTTP/1.1", operate),
        "foreign host": _head("GET /docs.json HTTP/1.1").replace(b"127.0.0.1", b"evil.example:3000"),
        "probe": _head("GET /readyz HTTP/1.1"),
        "metrics": _head("GET /metrics HTTP/1.1", operate),
        "no key": _head("POST /predict HTTP/1.1", of_form, body=form),
        "wrong key": _head("POST /predict HTTP/1.1", "authorization: Bearer \xe9", of_form, body=form),
        "unknown path": _head("GET /%e9/x?%00 HTTP/1.1"),
        "method": _head("DELETE /predict HTTP/1.1"),
        "options": _head("OPTIONS /predict HTTP/1.1", "origin: http://a", "access-control-request-method: POST"),
        "absolute": _head("POST http://127.0.0.1:3000/predict/ HTTP/1.1", key, "content-type: image/png", body=picture),
        "chunks": _head("POST /predict HTTP/1.1", key, "content-type: image/png", "transfer-encoding: chunked")
        + b"1\r\nx\r\n0\r\n\r\n",
    }
