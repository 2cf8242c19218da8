"""The front door in front of handlers that are slow or fail, or that must not be called."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.responses import PlainTextResponse, Response

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError
from services.classifier.requests import Call
from services.classifier.settings import Settings
from tests.services.door import client, code, front_door

SETTINGS = Settings(body_limit_bytes=2048, body_timeout_seconds=0.3, request_timeout_seconds=0.3, require_keys="never")
FORM = {"content-type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="Erika.jpg"\r\n\r\n'


def post(handler, content: object = HEAD + b"pixels\r\n--b--\r\n", **given: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client(front_door(SETTINGS, handler)) as http:
            return await http.post("/predict", content=content, headers={**FORM, "cookie": "session=1", **given})

    return asyncio.run(ask())


async def never(call: Call) -> Response:
    raise AssertionError("no handler may get this request")


class Slow:
    """A handler that takes long, and notes whether it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = False

    async def answer(self, call: Call) -> Response:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return PlainTextResponse("too late")


def count_of(status: int, endpoint: str = "/predict") -> float:
    return REGISTRY.get_sample_value("buckler_requests_total", {"endpoint": endpoint, "code": str(status)}) or 0


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data; boundary=b", HEAD + b"pixels\r\n--b--\r\n"),
        ("image/jpeg", b"pixels"),
        ("Image/PNG; name=Erika.png", b"pixels"),
        ("image/jpg", b"pixels"),
        ("IMAGE/webp", b"pixels"),
        ("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", b"pixels"),
        ("application/octet-stream", b"pixels"),
    ],
)
def test_a_handler_gets_the_picture_whatever_the_form_of_the_body(content_type: str, content: bytes):
    async def echo(call: Call) -> Response:
        (file,) = call.files
        return Response(file)

    assert post(echo, content, **{"content-type": content_type}).content == b"pixels"


async def show_whether_a_receipt_is_wanted(call: Call) -> Response:
    return PlainTextResponse(str(call.receipt))


@pytest.mark.parametrize("value", ["ed25519", "Ed25519", " ed25519 "])
def test_the_receipt_header_asks_for_a_receipt(value: str):
    assert post(show_whether_a_receipt_is_wanted).text == "False"
    assert post(show_whether_a_receipt_is_wanted, **{"X-Buckler-Receipt": value}).text == "True"


@pytest.mark.parametrize("value", ["", "rsa", "ed25519, rsa", "true"])
def test_an_unknown_kind_of_receipt_is_refused_without_quoting_it(value: str):
    response = post(never, **{"X-Buckler-Receipt": value})
    assert code(response) == (400, "receipt_unsupported")
    assert "rsa" not in response.text


def test_a_slow_answer_times_out_at_once_and_its_work_is_cancelled():
    slow = Slow()
    assert code(post(slow.answer)) == (504, "timeout")
    assert slow.cancelled


def test_a_request_counts_as_in_progress_until_it_is_answered():
    seen = []

    async def look(call: Call) -> Response:
        seen.append(REGISTRY.get_sample_value("buckler_requests_in_progress"))
        return PlainTextResponse("done")

    assert post(look).status_code == 200
    assert seen == [1]
    assert REGISTRY.get_sample_value("buckler_requests_in_progress") == 0


@pytest.mark.parametrize("in_thread", [False, True])
def test_an_unexpected_exception_is_answered_without_its_text_and_logged(caplog, in_thread: bool):
    async def fail(call: Call) -> Response:
        raise RuntimeError("secret")

    def fail_in_thread(call: Call) -> Response:
        raise RuntimeError("secret")

    with caplog.at_level(logging.ERROR, "buckler.service"):
        response = post(fail_in_thread if in_thread else fail)
    assert code(response) == (500, "internal_error")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in caplog.text


def test_a_slow_body_times_out():
    async def trickle() -> AsyncIterator[bytes]:
        yield HEAD
        await asyncio.sleep(5)
        yield b"--b--"

    assert code(post(never, trickle())) == (408, "body_timeout")


def test_reading_stops_at_the_body_limit():
    sent = 0

    async def pour() -> AsyncIterator[bytes]:
        nonlocal sent
        yield HEAD
        while True:
            sent += 1024
            yield bytes(1024)

    assert code(post(never, pour())) == (413, "body_too_large")
    assert sent <= SETTINGS.body_limit_bytes + 2 * 1024


class Leaver:
    """A client that sends a request and closes the connection, after its body or in the middle of it."""

    def __init__(self, *, after_body: bool) -> None:
        self.sent: list[Any] = []
        self._received = [{"type": "http.request", "body": HEAD + b"pixels\r\n--b--\r\n", "more_body": False}]
        if not after_body:
            self._received = []

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return self._received.pop() if self._received else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def ask(self, handler: Any) -> None:
        scope = {
            "type": "http",
            "path": "/predict",
            "method": "POST",
            "query_string": b"",
            "headers": [(b"content-type", FORM["content-type"].encode())],
        }
        asyncio.run(front_door(SETTINGS, handler)(scope, self.receive, self.send))


def test_a_client_that_leaves_in_its_body_is_counted_and_its_answer_started_for_outer_timeouts():
    before, leaver = count_of(499), Leaver(after_body=False)
    leaver.ask(never)
    assert [(message["type"], message["status"]) for message in leaver.sent] == [("http.response.start", 499)]
    assert count_of(499) == before + 1


def test_a_client_that_leaves_before_its_answer_is_counted_and_its_request_cancelled():
    slow = Slow()
    before, leaver = count_of(499), Leaver(after_body=True)
    leaver.ask(slow.answer)
    assert [message["status"] for message in leaver.sent] == [499]
    assert slow.cancelled
    assert count_of(499) == before + 1
    assert REGISTRY.get_sample_value("buckler_requests_in_progress") == 0


@pytest.mark.parametrize("error", list(ErrorCode))
def test_every_error_has_the_form_of_the_contract(error: ErrorCode):
    async def refuse(call: Call) -> Response:
        raise RefusalError(error)

    response = post(refuse)
    assert code(response) == (error.status, error)
    assert response.json()["error"]["message"] == error.message
    assert response.headers["cache-control"] == "no-store"
    assert len(response.headers["x-request-id"]) == 32
