"""The client at an address where another program, or a damaged proxy, answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from buckler.client import Client, ServiceError, UnreachableError

MODEL = {"name": "skin", "version": "3", "digest": "sha256:a", "verdict": "sha256:b"}
ANSWER = {
    "request_id": "1",
    "label": "benign",
    "probabilities": {"benign": 0.75, "malignant": 0.25},
    "decision": "accept",
    "reasons": [],
    "detector": {"score": 0.5, "threshold": 2.1, "verdict": "clean"},
    "model": MODEL,
}
CALLS: dict[str, Callable[[Client], object]] = {
    "predict": lambda client: client.predict(b"pixels"),
    "predict_many": lambda client: client.predict_many([b"pixels", b"pixels"]),
    "explain": lambda client: client.explain(b"pixels"),
    "feedback": lambda client: client.feedback("0" * 32, "agree"),
    "model_card": lambda client: client.model_card(),
}


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[Client]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with Client(f"http://127.0.0.1:{server.server_port}") as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"[" * 100_000, b"null"], ids=lambda body: repr(body[:6]))
def test_an_answer_of_another_program_is_one_clear_error(call: Callable[[Client], object], body: bytes):
    with answering(body) as client, pytest.raises(UnreachableError, match="is this its address"):
        call(client)


@pytest.mark.parametrize("name", ANSWER)
@pytest.mark.parametrize("value", [None, 7, {"a": []}])
def test_an_answer_with_a_field_of_another_type_is_refused(name: str, value: object):
    with answering(json.dumps({**ANSWER, name: value}).encode()) as client, pytest.raises(UnreachableError):
        client.predict(b"pixels")


def test_fields_of_a_newer_service_are_ignored():
    newer = {**ANSWER, "model": {**MODEL, "site": "A"}, "latency": 1}
    with answering(json.dumps(newer).encode()) as client:
        answer = client.predict(b"pixels")
    assert (answer.label, answer.model.version, answer.content["latency"]) == ("benign", "3", 1)


@pytest.mark.parametrize("code", [7, {}, [], None])
def test_an_error_whose_code_is_no_text_is_unknown(code: object):
    body = json.dumps({"error": {"code": code, "message": "x"}}).encode()
    with answering(body, status=400) as client, pytest.raises(ServiceError, match="unknown: 400") as caught:
        client.predict(b"pixels")
    assert (caught.value.code, caught.value.status) == ("unknown", 400)
