"""The front door in front of an application that is slow, fails, or must not be called."""

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.classifier.edge.front_door import FrontDoor
from services.classifier.records.audit import RECEIPT_WANTED
from services.classifier.settings import Settings

SETTINGS = Settings(body_limit_bytes=2048, body_timeout_seconds=0.3, request_timeout_seconds=0.3, require_keys="never")
FORM = {"content-type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="Erika.jpg"\r\n\r\n'


def post(endpoint, content: object = HEAD + b"pixels\r\n--b--\r\n", **given: str) -> httpx.Response:
    app = FrontDoor(Starlette(routes=[Route("/predict", endpoint, methods=["POST"])]), settings=SETTINGS)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/predict", content=content, headers={**FORM, "cookie": "session=1", **given})

    return asyncio.run(ask())


async def never(request: Request) -> Response:
    raise AssertionError("the application must not see this request")


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_the_application_gets_only_the_picture_of_the_form():
    async def echo(request: Request) -> Response:
        assert "cookie" not in request.headers
        async with request.form() as form:
            upload = form["image"]
            assert (list(form), upload.filename, upload.content_type) == (["image"], "image", None)
            return PlainTextResponse(await upload.read())

    assert post(echo).content == b"pixels"


async def tell_whether_a_receipt_is_wanted(request: Request) -> Response:
    assert "x-buckler-receipt" not in request.headers
    return PlainTextResponse(str(RECEIPT_WANTED.get()))


@pytest.mark.parametrize("value", ["ed25519", "Ed25519", " ed25519 "])
def test_the_receipt_header_is_not_forwarded_to_the_application(value: str):
    assert post(tell_whether_a_receipt_is_wanted).text == "False"
    assert post(tell_whether_a_receipt_is_wanted, **{"X-Buckler-Receipt": value}).text == "True"


@pytest.mark.parametrize("value", ["", "rsa", "ed25519, rsa", "true"])
def test_an_unknown_kind_of_receipt_is_refused_without_quoting_it(value: str):
    response = post(never, **{"X-Buckler-Receipt": value})
    assert code(response) == (400, "receipt_unsupported")
    assert "rsa" not in response.text


def test_a_slow_answer_times_out_at_once():
    async def sleep(request: Request) -> Response:
        await asyncio.sleep(30)
        return PlainTextResponse("too late")

    assert code(post(sleep)) == (504, "timeout")


def test_a_request_counts_as_in_progress_until_it_is_answered():
    seen = []

    async def look(request: Request) -> Response:
        seen.append(REGISTRY.get_sample_value("buckler_requests_in_progress"))
        return PlainTextResponse("done")

    assert post(look).status_code == 200
    assert seen == [1]
    assert REGISTRY.get_sample_value("buckler_requests_in_progress") == 0


def test_an_unexpected_exception_is_answered_without_its_text_and_logged(caplog):
    async def fail(request: Request) -> Response:
        raise RuntimeError("secret")

    with caplog.at_level(logging.ERROR, "buckler.service"):
        response = post(fail)
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


def test_a_closed_connection_is_counted_and_its_answer_started_for_outer_timeouts():
    sent = []

    async def hang_up() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    def gone() -> float:
        labels = {"endpoint": "/predict", "code": "499"}
        return REGISTRY.get_sample_value("buckler_requests_total", labels) or 0

    before = gone()
    head = {
        "type": "http",
        "path": "/predict",
        "method": "POST",
        "headers": [(b"content-type", FORM["content-type"].encode())],
    }
    asyncio.run(FrontDoor(never, settings=SETTINGS)(head, hang_up, send))
    assert [(message["type"], message["status"]) for message in sent] == [("http.response.start", 499)]
    assert gone() == before + 1


@pytest.mark.parametrize("status", [400, 401, 404, 405, 418, 500, 503])
def test_every_error_of_the_application_gets_the_form_of_the_contract(status: int):
    async def refuse(request: Request) -> Response:
        return PlainTextResponse("secret", status_code=status)

    response = post(refuse)
    assert set(response.json()) == {"error"}
    assert set(response.json()["error"]) == {"code", "message"}
    assert "secret" not in response.text
    assert response.status_code // 100 == status // 100
