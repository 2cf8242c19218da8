"""The comparison of answers with the OpenAPI document finds every kind of difference."""

import asyncio
import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from buckler.error_codes import ErrorCode
from services.classifier.contract import ErrorAnswer, ErrorForm, RefusalError
from services.classifier.edge.front_door import FrontDoor
from services.classifier.endpoints import ENDPOINTS
from services.classifier.requests import Call
from services.classifier.routing import Endpoint, Format, Table
from services.classifier.settings import Settings
from tests.services import openapi_check
from tests.services.openapi_check import MismatchError, Watch, contract

ID = "0123456789abcdef" * 2
FHIR = "application/fhir+json"
ANSWER: dict[str, Any] = {
    "request_id": ID,
    "label": "benign",
    "probabilities": {"benign": 0.75, "malignant": 0.25},
    "decision": "accept",
    "reasons": [],
    "detector": {"score": 0.5, "threshold": 2.0, "verdict": "clean"},
    "model": {"name": "skin", "version": "3", "digest": "sha256:5d", "verdict": "sha256:7d"},
}


def error(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "what to do"}}


def outcome(code: str) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"details": {"text": code}}]}


def answered(status: int, body: Any, *, method: str = "POST", path: str = "/predict", **headers: str) -> httpx.Response:
    given = {"x-request-id": ID, **{name.replace("_", "-"): value for name, value in headers.items()}}
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    request = httpx.Request(method, f"http://service{path}")
    return httpx.Response(status, headers={k: v for k, v in given.items() if v}, request=request, **content)


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    answer = copy.deepcopy(ANSWER)
    change(answer)
    return answer


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(answered(200, ANSWER), id="one picture"),
        pytest.param(answered(200, {"answers": [ANSWER, error("image_empty")]}), id="several pictures"),
        pytest.param(answered(200, {"resourceType": "Bundle"}, content_type=FHIR), id="FHIR"),
        pytest.param(answered(415, error("image_unsupported")), id="error"),
        pytest.param(answered(415, outcome("image_unsupported"), content_type=FHIR), id="error in FHIR"),
        pytest.param(answered(401, error("key_missing"), www_authenticate="Bearer"), id="challenge"),
        pytest.param(answered(429, error("rate_limited"), retry_after="3"), id="limit"),
        pytest.param(answered(429, error("query_attack")), id="limit without time"),
        pytest.param(answered(405, error("method_not_allowed"), method="PUT", allow="POST"), id="wrong method"),
        pytest.param(answered(405, error("method_not_allowed"), method="HEAD", allow="POST"), id="HEAD"),
        pytest.param(answered(404, error("not_found"), path="/nothing"), id="unknown path"),
        pytest.param(answered(404, {"error": "not_found: use another"}, path="/v2/nothing"), id="unknown path of OIP"),
        pytest.param(
            answered(404, {"error": "model_unknown: use another"}, path="/v2/models/other/infer"), id="error of OIP"
        ),
        pytest.param(answered(200, b"\n", method="GET", path="/livez", content_type="text/plain"), id="text"),
        pytest.param(answered(200, b"", method="HEAD", path="/livez"), id="HEAD of a probe"),
        pytest.param(answered(307, b"", method="GET", path="/"), id="undocumented endpoint"),
        pytest.param(answered(404, error("not_found"), method="GET", path="/docs/assets/x"), id="unknown asset"),
    ],
)
def test_a_documented_answer_passes(response: httpx.Response):
    contract(ENDPOINTS).check(response)


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        pytest.param(answered(418, error("image_empty")), "documented statuses 200, 400", id="undocumented status"),
        pytest.param(
            answered(200, ANSWER, content_type="text/html"), "application/json, application/fhir", id="media type"
        ),
        pytest.param(answered(200, b"", content_type=""), "got none", id="no media type"),
        pytest.param(
            answered(200, changed(lambda answer: answer.pop("label"))), "'label' is a required", id="missing field"
        ),
        pytest.param(
            answered(200, changed(lambda answer: answer.update(reasons=["mood"]))), "'mood' is not one of", id="reason"
        ),
        pytest.param(
            answered(200, changed(lambda answer: answer["detector"].update(score="high"))),
            "not of type 'number'",
            id="type",
        ),
        pytest.param(
            answered(200, changed(lambda answer: answer.update(patient="Erika"))),
            "Additional properties are not allowed",
            id="undocumented field",
        ),
        pytest.param(answered(200, b"{", content_type="application/json"), "expected JSON: ", id="no JSON"),
        pytest.param(answered(200, b"NaN", content_type="application/json"), "NaN is no JSON", id="no number"),
        pytest.param(answered(400, {"detail": "no"}), "does not match its schema", id="form of an error"),
        pytest.param(answered(400, error("label_unknown")), "field_missing.*got label_unknown", id="undocumented code"),
        pytest.param(answered(400, error("key_missing")), "got key_missing", id="code of another status"),
        pytest.param(answered(400, outcome("mood"), content_type=FHIR), "got mood", id="undocumented code in FHIR"),
        pytest.param(answered(200, ANSWER, x_request_id=""), "header X-Request-ID, got none", id="no request id"),
        pytest.param(answered(200, ANSWER, x_request_id="7"), "X-Request-ID does not match", id="short request id"),
        pytest.param(answered(401, error("key_missing")), "header WWW-Authenticate, got none", id="no challenge"),
        pytest.param(answered(429, error("rate_limited"), retry_after="soon"), "Retry-After does not", id="no number"),
        pytest.param(answered(200, ANSWER, path="/predictions"), "statuses 404", id="answer of an unknown path"),
        pytest.param(answered(404, error("not_found"), path="/v2/nothing"), "not of type 'string'", id="form of OIP"),
        pytest.param(answered(200, ANSWER, method="PUT"), "statuses 405", id="answer to a wrong method"),
        pytest.param(
            answered(405, error("method_not_allowed"), method="PUT"), "the header Allow, got none", id="no Allow"
        ),
        pytest.param(answered(400, b"", method="HEAD", path="/livez"), "statuses 200, 421, 500", id="HEAD"),
        pytest.param(answered(403, b"", method="GET", path="/docs"), "statuses", id="undocumented endpoint"),
    ],
)
def test_every_difference_is_found(response: httpx.Response, fault: str):
    with pytest.raises(MismatchError, match=f"^{response.request.method} /.* answered .*{fault}"):
        contract(ENDPOINTS).check(response)


@pytest.fixture
def watch() -> Iterator[Watch]:
    with openapi_check.watching(watch := Watch({"http://service:3000": ENDPOINTS})):
        yield watch


def teapot(request: httpx.Request) -> httpx.Response:
    return httpx.Response(418, headers={"x-request-id": ID})


def make_tea(host: str) -> None:
    with httpx.Client(transport=httpx.MockTransport(teapot)) as client:
        client.get(f"http://{host}:3000/livez")


def test_an_answer_of_a_watched_address_is_reported_once(watch: Watch):
    make_tea("elsewhere")
    watch.report()
    make_tea("service")
    make_tea("service")
    with pytest.raises(MismatchError) as raised:
        watch.report()
    assert str(raised.value).count("GET /livez answered 418") == 1
    watch.report()


def test_the_form_of_an_error_of_a_front_door_in_this_process_is_checked():
    async def refuse(call: Call) -> Response:
        raise RefusalError(ErrorCode.LABEL_UNKNOWN)

    form = ErrorForm("application/json", lambda refusal: {"problem": refusal.code}, ErrorAnswer)
    row = Endpoint(name="a", method="GET", paths=("/a",), handler=refuse, gives=(Format("text/plain"),))
    other = replace(row, name="b", paths=("/b",), gives=(Format("text/plain", error_form=form),))
    app = FrontDoor(never, Settings(), Table((row, other)), pipeline=lambda: None)

    async def ask(path: str) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            assert (await client.get(path)).status_code == 400

    asyncio.run(ask("/a"))
    openapi_check.WATCH.report()
    asyncio.run(ask("/b"))
    with pytest.raises(MismatchError, match=r"GET /b answered 400: the body does not .*'error' is a required property"):
        openapi_check.WATCH.report()


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("no request reaches the application behind the front door")


def test_a_test_that_got_another_answer_fails(watch: Watch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openapi_check, "WATCH", watch)
    hook = openapi_check.pytest_runtest_call()
    next(hook)
    make_tea("service")
    with pytest.raises(MismatchError, match="GET /livez answered 418"):
        next(hook)
