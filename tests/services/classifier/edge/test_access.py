"""Keys and roles at the front door."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.responses import PlainTextResponse, Response

from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from services.classifier import metrics
from services.classifier.__main__ import main, server
from services.classifier.edge import access
from services.classifier.endpoints import ENDPOINTS
from services.classifier.interfaces.openapi import document
from services.classifier.requests import ANONYMOUS, Call
from services.classifier.settings import Settings
from tests.services.door import PICTURE, Keys, ask, bearer, client, code, front_door, required
from tests.services.running import Server, serving
from tests.waiting import wait_for


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "api.json")


# --- with keys required


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("::1", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.7", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("", True),
        (None, True),
    ],
)
def test_keys_are_required_unless_the_service_is_bound_to_loopback(host: str | None, asked: bool):
    assert Settings(bound_host=host).keys_required is asked
    assert Settings(bound_host=host, require_keys="always").keys_required
    assert not Settings(bound_host=host, require_keys="never").keys_required


@pytest.mark.parametrize(
    ("arguments", "host", "bound"),
    [
        ([], None, "127.0.0.1"),
        ([], "", "127.0.0.1"),
        ([], "0.0.0.0", "0.0.0.0"),
        (["--host", "10.0.0.7"], None, "10.0.0.7"),
        (["--host=10.0.0.7"], "127.0.0.1", "10.0.0.7"),
        (["--host", "127.0.0.1", "--host=0.0.0.0"], None, "0.0.0.0"),
        (["--port", "3000", "--host", "0.0.0.0", "--reload"], None, "0.0.0.0"),
    ],
)
def test_the_service_and_bentoml_get_the_same_address(arguments, host, bound, monkeypatch):
    monkeypatch.setenv("BUCKLER_BOUND_HOST", "127.0.0.1")
    if host is not None:
        monkeypatch.setenv("BUCKLER_HOST", host)
    command, environment = server(arguments)
    assert [command[i + 1] for i, part in enumerate(command) if part == "--host"] == [bound]
    assert not any(part.startswith("--host=") for part in command)
    assert environment["BUCKLER_BOUND_HOST"] == bound


def test_other_arguments_reach_bentoml_unchanged():
    command, _ = server(["--port", "3000", "--host", "::1", "--reload", "--backlog=5"])
    assert command[-6:] == ["--host", "::1", "--port", "3000", "--reload", "--backlog=5"]


# --- keys and roles


def test_a_key_opens_only_the_paths_of_its_role(keys: Keys):
    app = front_door(required(keys))
    assert ask(app, "POST", "/predict", bearer(keys.predict_key)).text == "answered"
    assert ask(app, "GET", "/metrics", bearer(keys.operate_key)).text == "answered"
    for method, path, key in [("POST", "/predict", keys.operate_key), ("GET", "/metrics", keys.predict_key)]:
        response = ask(app, method, path, bearer(key))
        assert code(response) == (403, "role_forbidden")
        assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "key_missing"),
        ({"authorization": ""}, "key_missing"),
        ({"authorization": "Bearer"}, "key_missing"),
        ({"authorization": "Bearer  "}, "key_missing"),
        ({"authorization": "Basic dXNlcjpwYXNz"}, "key_missing"),
        ({"authorization": "{key}"}, "key_missing"),
        ([("authorization", "Bearer {key}"), ("authorization", "Bearer {key}")], "key_missing"),
        ({"cookie": "key={key}"}, "key_missing"),
        ({"authorization": "Bearer bk_guess"}, "key_unknown"),
        ({"authorization": "Bearer {key}x"}, "key_unknown"),
        ({"authorization": "Bearer {key} {key}"}, "key_unknown"),
        ({"authorization": b"Bearer \xff\xfe"}, "key_unknown"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/metrics"), ("HEAD", "/metrics")])
def test_a_missing_or_invalid_key_is_refused(keys: Keys, method: str, path: str, headers, expected: str):
    def fill(value: Any) -> Any:
        return value.replace("{key}", keys.predict_key) if isinstance(value, str) else value

    pairs = headers.items() if isinstance(headers, dict) else headers
    response = ask(front_door(required(keys)), method, path, [(name, fill(value)) for name, value in pairs])
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Bearer realm="buckler"')
    assert method == "HEAD" or code(response) == (401, expected)


def test_the_authorization_scheme_is_case_insensitive(keys: Keys):
    app = front_door(required(keys))
    assert ask(app, "POST", "/predict", {"authorization": f"bearer  {keys.predict_key}"}).status_code == 200


def test_endpoints_that_query_or_describe_the_model_need_a_predict_key():
    wanted = {"predict", "explain", "feedback", "oipServer", "oipModel", "oipInfer", "modelCard", "modelCardPage"}
    assert {row.name for row in ENDPOINTS if row.role == Role.PREDICT} == wanted
    assert {row.name for row in ENDPOINTS if row.role == Role.OPERATE} == {"metrics"}


@pytest.mark.parametrize("path", [path for row in ENDPOINTS if row.role is None for path in row.paths])
def test_probes_and_docs_need_no_key(keys: Keys, path: str):
    path = re.sub(r"{[^}]*}", "some", path)
    assert ask(front_door(required(keys)), "GET", path).text == "answered"


def test_unknown_paths_and_wrong_methods_are_refused_with_or_without_a_key(keys: Keys):
    app = front_door(required(keys))
    for headers in ({}, bearer(keys.predict_key)):
        assert code(ask(app, "GET", "/nothing", headers)) == (404, "not_found")
        response = ask(app, "GET", "/predict", headers)
        assert code(response) == (405, "method_not_allowed")
        assert response.headers["allow"] == "POST, OPTIONS"


def test_on_loopback_keys_are_ignored(keys: Keys):
    app = front_door(required(keys, require_keys="auto", bound_host="127.0.0.1"))
    for headers in ({}, bearer("bk_guess"), {"authorization": "Bearer"}):
        assert ask(app, "POST", "/predict", headers).status_code == 200
        assert ask(app, "GET", "/metrics", headers).status_code == 200


def test_without_a_key_file_every_key_is_refused(tmp_path: Path):
    app = front_door(Settings(api_keys=tmp_path / "none.json"))
    assert code(ask(app, "POST", "/predict", bearer("bk_guess"))) == (401, "key_unknown")


def test_an_unreadable_key_file_is_a_503_for_everyone(keys: Keys):
    keys.path.write_text("{")
    response = ask(front_door(required(keys)), "POST", "/predict", bearer(keys.predict_key))
    assert code(response) == (503, "keys_unavailable")
    assert str(keys.path) not in response.text


def test_a_refused_client_is_answered_before_its_body_is_read(keys: Keys):
    async def pour() -> AsyncIterator[bytes]:
        raise AssertionError("nobody may ask for the body")
        yield b""

    async def refused(headers: dict[str, str], **changes: Any) -> tuple[int, str]:
        async with client(front_door(required(keys, **changes))) as http:
            return code(await http.post("/predict", content=pour(), headers=headers))

    assert asyncio.run(refused({})) == (401, "key_missing")
    assert asyncio.run(refused(bearer(keys.operate_key))) == (403, "role_forbidden")


def test_only_the_id_of_a_key_is_logged(keys: Keys, caplog):
    app = front_door(required(keys))
    with caplog.at_level(logging.DEBUG):
        ask(app, "POST", "/predict", bearer(keys.predict_key))
        ask(app, "POST", "/predict", bearer(keys.operate_key))
        ask(app, "POST", "/predict", bearer("bk_GEHEIM"))
        ask(app, "POST", "/predict", {"authorization": "Basic GEHEIM"})
    lines = [record.getMessage() for record in caplog.records if record.name == "buckler.service"]
    assert [line.split()[2] for line in lines] == [
        f"key={each}" for each in (keys.predict.id, keys.operate.id, "-", "-")
    ]
    counted = [sample for family in REGISTRY.collect() for sample in family.samples]
    for text in ("GEHEIM", keys.predict_key, keys.operate_key, keys.predict.sha256, "ward-3", "prometheus"):
        assert text not in caplog.text
        assert not any(text in value for sample in counted for value in sample.labels.values())
    assert not any(keys.predict.id in value for sample in counted for value in sample.labels.values())


@pytest.mark.parametrize(
    ("settings", "level", "text"),
    [
        ({"bound_host": "127.0.0.1"}, "INFO", "no keys are required"),
        ({"bound_host": "0.0.0.0"}, "INFO", "keys are required, 2 valid in"),
        (
            {"api_keys": Path("/nonexistent/api.json")},
            "WARNING",
            "0 valid in /nonexistent/api.json; `buckler keys create`",
        ),
        ({"api_keys": Path("/")}, "ERROR", "none is valid: the API keys: expected a file at /, got a folder"),
    ],
)
def test_the_log_states_at_the_start_whether_keys_are_required(keys: Keys, caplog, settings, level, text):
    with caplog.at_level(logging.INFO):
        access.announce(Settings(**{"api_keys": keys.path, **settings}))
    (record,) = caplog.records
    assert record.levelname == level
    assert text in record.getMessage()


def test_a_handler_gets_the_id_of_the_key(keys: Keys):
    async def who(call: Call) -> Response:
        return PlainTextResponse(call.sender.client)

    app = front_door(required(keys), who)
    _, other = api_keys.create(keys.path, role=Role.PREDICT, name="ward-4")
    found = [ask(app, "POST", "/predict", bearer(key)).text for key in (keys.predict_key, other, keys.predict_key)]
    assert found[0] == found[2] == keys.predict.id
    assert found[1] not in (keys.predict.id, ANONYMOUS)
    open_to_all = front_door(Settings(require_keys="never"), who)
    assert ask(open_to_all, "POST", "/predict").text == ANONYMOUS


# --- documentation and metrics


@pytest.mark.parametrize("asked", [True, False])
def test_the_openapi_document_states_whether_keys_are_required(asked: bool):
    written = document(Settings(require_keys="always" if asked else "never"), ENDPOINTS)
    operations = {path: item.get("get") or item["post"] for path, item in written["paths"].items()}
    locked = {path for path, operation in operations.items() if operation.get("security") == [{"key": []}]}
    assert locked == ({path for row in ENDPOINTS if row.role for path in row.paths} if asked else set())
    assert written["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_the_document_lists_the_headers_of_refusals():
    responses = document(Settings(), ENDPOINTS)["paths"]["/predict"]["post"]["responses"]
    assert list(responses["401"]["headers"]) == ["X-Request-ID", "WWW-Authenticate"]
    assert list(responses["429"]["headers"]) == ["X-Request-ID", "Retry-After"]


def test_every_refusal_is_counted_from_the_start():
    metrics.create_series(ENDPOINTS)
    expected = {"/predict": ("401", "403", "422", "429", "499", "503", "504"), "/metrics": ("401", "403")}
    for endpoint, codes in expected.items():
        for each in codes:
            assert REGISTRY.get_sample_value("buckler_requests_total", {"endpoint": endpoint, "code": each}) is not None


# --- a real server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The service without a model, bound to all addresses, and its keys."""
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "release/model").mkdir(parents=True)
    keys = Keys(directory / "api.json")
    settings = {"BUCKLER_HOST": "0.0.0.0", "BUCKLER_API_KEYS": str(keys.path)}
    with serving(directory, directory, BUCKLER_RELEASE=str(directory / "release"), **settings) as server:
        yield server, keys


@pytest.mark.slow
def test_a_server_bound_to_all_addresses_requires_keys_and_reloads_the_file(guarded: tuple[Server, Keys]):
    server, keys = guarded

    def post(key: str | None = None) -> tuple[int, str]:
        headers = bearer(key) if key else {}
        return code(httpx.post(f"{server.url}/predict", files=PICTURE, headers=headers, timeout=60))

    assert server.get("/livez").status_code == 200
    assert server.get("/docs").status_code == 200
    assert code(server.get("/metrics")) == (401, "key_missing")
    scraped = httpx.get(f"{server.url}/metrics", headers=bearer(keys.operate_key), timeout=60)
    assert 'buckler_requests_total{code="401",endpoint="/metrics"} 1.0' in scraped.text

    assert post() == (401, "key_missing")
    assert post(keys.operate_key) == (403, "role_forbidden")
    assert post(keys.predict_key) == (503, "no_verified_model")

    made, key = api_keys.create(keys.path, role=Role.PREDICT, name="ward-4")
    wait_for(lambda: post(key) == (503, "no_verified_model"), 30)
    api_keys.revoke(keys.path, made.id)
    wait_for(lambda: post(key) == (401, "key_unknown"), 30)

    log = server.log.read_text()
    assert "bound to 0.0.0.0; keys are required, 2 valid in" in log
    assert f"key={made.id} status=503 error=no_verified_model" in log
    assert key not in log
    assert made.sha256 not in log


def test_numpy_uses_one_thread_unless_the_operator_set_another_number(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert server([])[1]["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    assert server([])[1]["OPENBLAS_NUM_THREADS"] == "4"


def test_a_wrong_setting_ends_the_command_with_one_line(monkeypatch):
    monkeypatch.setenv("BUCKLER_WORKERS", "many")
    monkeypatch.setattr("sys.argv", ["services.classifier"])
    with pytest.raises(SystemExit, match=r"^error: environment: BUCKLER_WORKERS: expected .*, got 'many'$"):
        main()
