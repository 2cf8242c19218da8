"""The service is a BentoML service: BentoML's own command starts it and BentoML's own clients query it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest
from bentoml.exceptions import BentoMLException, ServiceUnavailable

from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from buckler.trust import audit_chain
from services.classifier.contract import Answer
from services.classifier.service import create
from services.classifier.settings import Settings
from tests.services.running import LABELS, TLS, Server, bentoml_serving

pytestmark = pytest.mark.slow

SERVICE = "services.classifier.service:Classifier"
PROBES = ("/livez", "/readyz", "/healthz")
TOKEN_OF_BENTOCLOUD = "BENTO_CLOUD_API_KEY"  # BentoML's clients send it where they get no token


@pytest.fixture(scope="module")
def key(module_tmp_path: Path) -> tuple[str, str]:
    """Id and secret of an API key."""
    key, secret = api_keys.create(module_tmp_path / "api.json", role=Role.PREDICT, name="ward-3")
    return key.id, secret


@pytest.fixture(scope="module")
def locked(module_tmp_path: Path, release: Path, keys: Path, key: tuple[str, str]) -> Iterator[Server]:
    """The service, started with BentoML's command, that requires keys."""
    settings = {
        "BUCKLER_RELEASE": str(release),
        "BUCKLER_REQUIRE_KEYS": "always",
        "BUCKLER_API_KEYS": str(module_tmp_path / "api.json"),
    }
    with bentoml_serving(module_tmp_path, keys, SERVICE, **settings) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_OF_BENTOCLOUD, raising=False)


@pytest.fixture
def path(picture: bytes, tmp_path: Path) -> Path:
    (tmp_path / "Erika.jpg").write_bytes(picture)
    return tmp_path / "Erika.jpg"


@contextmanager
def connected(server: Server, **options: Any) -> Iterator[bentoml.SyncHTTPClient]:
    with bentoml.SyncHTTPClient(server.url, **options) as client, client._temp_dir:  # it leaves its directory behind
        yield client


def without_id(answer: dict[str, Any]) -> dict[str, Any]:
    checked = Answer.model_validate(answer, strict=True)
    assert set(checked.probabilities) == set(LABELS)
    return {name: answer[name] for name in ("label", "decision", "reasons", "model")}


def test_bentomls_client_gets_the_answer_that_every_client_gets(server: Server, picture: bytes, path: Path):
    with connected(server) as client:
        assert client.is_ready()
        answer = client.predict(image=path)
    assert without_id(answer) == without_id(server.predict(picture).json())


def test_bentomls_asynchronous_clients_are_answered_at_once(server: Server, picture: bytes, path: Path):
    async def ask() -> dict[str, Any]:
        # A client for each call: the first call of a client that ends closes the files of its other calls.
        async with bentoml.AsyncHTTPClient(server.url) as client:
            with client._temp_dir:
                assert await client.is_ready()
                return dict(await client.predict(image=path))

    async def ask_all() -> list[dict[str, Any]]:
        return await asyncio.gather(*(ask() for _ in range(4)))

    answers = asyncio.run(ask_all())
    assert [without_id(each) for each in answers] == [without_id(server.predict(picture).json())] * 4
    assert len({each["request_id"] for each in answers}) == 4


def test_bentomls_token_is_the_key(locked: Server, key: tuple[str, str], path: Path):
    with connected(locked, token=key[1]) as client:
        answer = client.predict(image=path)
    report = audit_chain.verify(locked.audit)
    assert (report.problem, report.lines) == (None, 1)
    assert answer["request_id"] in (line := locked.audit.read_text())
    assert key[0] in line


def test_without_a_token_bentomls_client_is_ready_and_its_request_refused(locked: Server, path: Path):
    with connected(locked) as client:
        assert client.is_ready()
        with pytest.raises(BentoMLException, match="key_missing") as refused:
            client.predict(image=path)
    assert refused.value.error_code == HTTPStatus.UNAUTHORIZED


def test_bentomls_client_raises_the_code_of_a_refusal(server: Server, tmp_path: Path):
    (tmp_path / "letter.jpg").write_text("I am a text, whatever my name says")
    with connected(server) as client, pytest.raises(BentoMLException, match="image_unsupp") as refused:
        client.predict(image=tmp_path / "letter.jpg")
    assert refused.value.error_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE


def test_bentomls_client_waits_for_a_verified_model(server_without_model: Server):
    with connected(server_without_model, server_ready_timeout=0) as client:
        assert not client.is_ready()
        with pytest.raises(ServiceUnavailable, match="not ready"):
            client.wait_until_server_ready(0.3)


def probe(server: Server, path: str, method: str = "GET") -> httpx.Response:
    """Ask as the kubelet does: without a key, on a new connection."""
    headers = {"user-agent": "kube-probe/1.33", "accept": "*/*", "connection": "close"}
    return httpx.request(method, server.url + path, headers=headers, timeout=1, verify=TLS)


@pytest.mark.parametrize("path", PROBES)
def test_a_probe_needs_no_key(locked: Server, path: str):
    for method in ("GET", "HEAD"):
        response = probe(locked, path, method)
        assert (response.status_code, response.text.strip(), response.headers["connection"]) == (200, "", "close")


def test_probes_tell_a_living_service_from_one_that_can_answer(server_without_model: Server):
    assert [probe(server_without_model, path).status_code for path in PROBES] == [200, 503, 200]


def test_bentomls_descriptions_of_the_service_name_predict():
    service = create(Settings())
    (route,) = service.schema()["routes"]
    assert (route["name"], route["route"], route["input"]["required"]) == ("predict", "/predict", ["image"])
    assert set(Answer.model_json_schema()["required"]) <= set(route["output"]["properties"])
    assert "post" in service.openapi_spec.asdict()["paths"]["/predict"]


def test_the_schema_that_clients_read_is_bentomls(locked: Server):
    assert locked.get("/schema.json").json() == create(Settings()).schema()
