"""DNS rebinding: a foreign page whose name resolves to this machine reads nothing without a key."""

import asyncio
import re
from typing import Any

import pytest

from services.classifier import host_names
from services.classifier.endpoints import ENDPOINTS
from services.classifier.routing import Endpoint
from services.classifier.settings import Settings
from tests.services.door import Keys, ask, bearer, code, front_door, required
from tests.services.running import Server

LOOPBACK = Settings(bound_host="127.0.0.1")
KEYLESS = (LOOPBACK, Settings(require_keys="never"), Settings(require_keys="never", bound_host="0.0.0.0"))
EVIL = {"host": "evil.example:3000"}


@pytest.mark.parametrize(
    ("header", "bound", "own"),
    [
        ("127.0.0.1:3000", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("LocalHost:3000", "127.0.0.1", True),
        ("localhost.:3000", "127.0.0.1", True),
        ("[::1]:3000", "::1", True),
        ("127.8.8.8", "127.0.0.1", True),
        ("ward.example", "127.0.0.1", True),
        ("evil.example", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("evil.example@127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1/.evil.example", "127.0.0.1", False),
        ("10.0.0.7:3000", "127.0.0.1", False),
        ("10.0.0.7:3000", "0.0.0.0", True),
        ("10.0.0.7:3000", None, True),
        ("evil.example", "0.0.0.0", False),
        ("evil.example", None, False),
        ("", "127.0.0.1", False),
        ("[::1", "::1", False),
    ],
)
def test_only_own_names_and_addresses_belong_to_this_process(header: str, bound: str | None, own: bool):
    assert host_names.is_own(header, bound=bound, names={"ward.example"}) is own


@pytest.mark.parametrize("settings", KEYLESS, ids=["auto", "never", "never on all addresses"])
@pytest.mark.parametrize("row", tuple(ENDPOINTS), ids=lambda row: row.name)
def test_without_keys_a_foreign_name_is_refused_by_every_endpoint(settings: Settings, row: Endpoint):
    response = ask(front_door(settings), row.method, re.sub(r"{[^}]*}", "some", row.paths[0]), EVIL)
    assert response.status_code == 421
    assert "host_unknown" in response.text


def test_names_of_the_settings_are_accepted():
    app = front_door(Settings(bound_host="127.0.0.1", host_names="Ward.example, other.example"))
    assert ask(app, "GET", "/livez", {"host": "ward.example:3000"}).status_code == 200
    assert ask(app, "GET", "/livez", {"host": "other.example"}).status_code == 200
    assert code(ask(app, "GET", "/livez", EVIL)) == (421, "host_unknown")


def test_with_keys_the_name_is_not_checked(tmp_path):
    keys = Keys(tmp_path / "api.json")
    app = front_door(required(keys))
    assert ask(app, "GET", "/metrics", {**bearer(keys.operate_key), **EVIL}).status_code == 200
    assert code(ask(app, "GET", "/metrics", EVIL)) == (401, "key_missing")


def test_a_scope_other_than_http_never_reaches_bentoml():
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    asyncio.run(front_door(LOOPBACK)({"type": "websocket", "path": "/predict"}, receive, send))
    assert sent == [{"type": "websocket.close"}]


@pytest.mark.slow
def test_a_server_on_loopback_refuses_a_foreign_name(exposed: Server):
    assert exposed.get("/model", host="evil.example").status_code == 421
    assert exposed.get("/metrics", host="localhost").status_code == 200
