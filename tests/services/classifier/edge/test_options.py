"""``OPTIONS`` of every endpoint, and pages of other origins (CORS)."""

import re
from pathlib import Path

import httpx
import pytest

from buckler.errors import ParamsError
from services.classifier.endpoints import ENDPOINTS
from services.classifier.routing import Endpoint
from services.classifier.settings import Settings
from tests.services.door import Keys, ask, bearer, code, front_door, required

VIEWER = "https://viewer.example"
LISTED = Settings(require_keys="never", bound_host="127.0.0.1", cors_origins=f"{VIEWER}, http://localhost:8080")
QUESTION = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


def cors(response: httpx.Response) -> set[str]:
    return {name for name in response.headers if name.startswith("access-control-")}


@pytest.mark.parametrize("row", tuple(ENDPOINTS), ids=lambda row: row.name)
def test_options_lists_the_methods_of_a_path_without_a_key(row: Endpoint, tmp_path: Path):
    app = front_door(required(Keys(tmp_path / "api.json")))
    for path in row.paths:
        response = ask(app, "OPTIONS", re.sub(r"{[^}]*}", "some", path))
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["allow"] == ("POST, OPTIONS" if row.method == "POST" else "GET, HEAD, OPTIONS")
        assert not cors(response)
        assert len(response.headers["x-request-id"]) == 32


def test_options_of_an_unknown_path_or_host_is_refused():
    app = front_door(LISTED)
    assert code(ask(app, "OPTIONS", "/nothing")) == (404, "not_found")
    assert code(ask(app, "OPTIONS", "/predict", {"host": "evil.example", "origin": VIEWER})) == (421, "host_unknown")


def test_a_listed_page_may_send_pictures_and_read_answers_and_errors():
    app = front_door(LISTED)
    asked = ask(app, "OPTIONS", "/predict/", {"origin": VIEWER, **QUESTION})
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == VIEWER
    assert asked.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert {"Authorization", "Content-Type"} <= set(asked.headers["access-control-allow-headers"].split(", "))
    for method, path, status in (("POST", "/predict", 200), ("GET", "/predict", 405), ("GET", "/nothing", 404)):
        response = ask(app, method, path, {"origin": VIEWER})
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, VIEWER)
        assert {"X-Request-ID", "Retry-After", "X-Buckler-Decision"} <= set(
            response.headers["access-control-expose-headers"].split(", ")
        )
        assert response.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in response.headers


def test_a_page_on_the_list_still_needs_a_key(tmp_path: Path):
    keys = Keys(tmp_path / "api.json")
    app = front_door(required(keys, cors_origins=VIEWER))
    assert ask(app, "OPTIONS", "/predict", {"origin": VIEWER, **QUESTION}).status_code == 204
    refused = ask(app, "POST", "/predict", {"origin": VIEWER})
    assert code(refused) == (401, "key_missing")
    assert refused.headers["access-control-allow-origin"] == VIEWER
    assert ask(app, "POST", "/predict", {"origin": VIEWER, **bearer(keys.predict_key)}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://viewer.example:8443",
        "http://viewer.example",
        "https://evil.example",
        "null",
        "*",
        "",
        f"{VIEWER}/",
        f"{VIEWER}.evil.example",
    ],
)
def test_any_other_page_reads_nothing(origin: str):
    app = front_door(LISTED)
    for method in ("OPTIONS", "POST"):
        response = ask(app, method, "/predict", {"origin": origin, **QUESTION})
        assert response.is_success
        assert not cors(response)
        assert response.headers["vary"] == "Origin"


def test_two_origins_are_none():
    assert not cors(ask(front_door(LISTED), "POST", "/predict", [("origin", VIEWER), ("origin", VIEWER)]))


def test_by_default_no_page_reads_anything():
    app = front_door(Settings(require_keys="never"))
    for method in ("OPTIONS", "POST"):
        response = ask(app, method, "/predict", {"origin": VIEWER, **QUESTION})
        assert response.is_success
        assert not cors(response)
        assert "vary" not in response.headers


@pytest.mark.parametrize(
    "origins", ["*", "https://*", "https://viewer.example/", "viewer.example", "null", "HTTPS://viewer.example"]
)
def test_what_is_no_origin_is_refused_at_the_start(origins: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUCKLER_CORS_ORIGINS", origins)
    with pytest.raises(ParamsError, match=r"BUCKLER_CORS_ORIGINS.*expected origins"):
        Settings.from_env()
