"""Two real services with their own models behind the real proxy, and Prometheus in front of both."""

import hashlib
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
import yaml

from benchmarks.servers import ROOT, end, free_port, started
from benchmarks.signing import write_verdict
from buckler.client import Client
from buckler.client.errors import ServiceError
from buckler.models.info import load_info, save_info
from buckler.serving import api_keys, selftest
from buckler.serving.api_keys import Role
from buckler.trust.verdict import MODEL_DIR
from drills.service import wait_until
from tests.monitoring.stage import RunningPrometheus, answers
from tests.monitoring.tools import needs
from tests.services.proxy import proxy
from tests.services.running import LABELS, Server, encode, serving

pytestmark = pytest.mark.slow

MEBIBYTE = 1024 * 1024
MODELS = {"skin": "skin-lesion", "retina": "retina-referable"}
ANSWERS = {"skin": LABELS, "retina": ("healthy", "referable")}
BODY_SECONDS = 2


@dataclass(frozen=True)
class Model:
    """A service behind the proxy.

    Attributes:
        server: The service itself.
        url: Its address at the proxy, without a slash at the end.
        key: An API key with the role ``predict``.
        scrape: The file with a key of the role ``operate``.
    """

    server: Server
    url: str
    key: str
    scrape: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=self.headers, timeout=60)

    def predict(self, picture: bytes, **options: object) -> httpx.Response:
        options = {"headers": self.headers, "files": {"image": ("a.jpg", picture)}} | options
        return httpx.post(f"{self.url}/predict", timeout=60, **options)  # type: ignore[arg-type]


def signed(release: Path, keys: Path, place: Path, name: str) -> Path:
    """Copy the release with the labels of ``name`` and a verdict about its model."""
    copy = Path(shutil.copytree(release, place))
    labels = ANSWERS[name]
    save_info(replace(load_info(copy / MODEL_DIR), labels=labels, dangerous=labels[1:]), copy / MODEL_DIR)
    selftest.write(copy / MODEL_DIR)
    write_verdict(copy, keys, MODELS[name])
    return copy


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, release: Path, keys: Path) -> Iterator[dict[str, Model]]:
    """Skin and retina, each with its own model, API keys, audit log and folder of BentoML."""
    root = tmp_path_factory.mktemp("models")
    with ExitStack() as stack:
        found = {}
        for name in MODELS:
            place = root / name
            ring, scrape = place / "keys/api.json", place / "keys/service.key"
            _, key = api_keys.create(ring, role=Role.PREDICT, name="ward-3")
            scrape.write_text(api_keys.create(ring, role=Role.OPERATE, name="prometheus")[1])
            settings = {
                "BUCKLER_RELEASE": str(signed(release, keys, place / "release", name)),
                "BUCKLER_MODEL_NAME": MODELS[name],
                "BUCKLER_API_KEYS": str(ring),
                "BUCKLER_REQUIRE_KEYS": "always",
                "BUCKLER_BODY_TIMEOUT_SECONDS": str(BODY_SECONDS),
            }
            found[name] = (stack.enter_context(serving(place, keys, **settings)), key, scrape)
        ports = {name: server.port for name, (server, _, _) in found.items()}
        address = stack.enter_context(proxy(root / "proxy", ports))
        yield {
            name: Model(server, f"http://{address}/{name}", key, scrape)
            for name, (server, key, scrape) in found.items()
        }


@pytest.mark.parametrize("name", MODELS)
def test_each_answers_below_its_path_with_its_own_model_and_card(models: dict[str, Model], picture: bytes, name: str):
    model = models[name]
    answer = model.predict(picture).json()
    assert answer["model"]["name"] == MODELS[name]
    assert set(answer["probabilities"]) == set(ANSWERS[name])
    card = model.get("/model").json()["model"]
    assert (card["name"], tuple(card["labels"])) == (MODELS[name], ANSWERS[name])
    assert f"<title>{MODELS[name]} " in model.get("/model.html").text
    assert model.get("/readyz").status_code == 200
    assert model.get(f"/v2/models/{MODELS[name]}/ready").status_code == 200
    assert model.get("/v2/models/dental-conditions/ready").status_code == 404


def test_the_client_takes_an_address_with_a_path(models: dict[str, Model], picture: bytes):
    model = models["retina"]
    with Client(model.url, key=model.key) as service:
        assert service.predict(picture).model.name == MODELS["retina"]
        assert service.feedback(service.predict(picture).request_id, "agree") > 0
        found = service.explain(encode("PNG", (900, 900)))
        assert found.picture.startswith(b"\x89PNG")
        assert service.model_card()["model"]["name"] == MODELS["retina"]


def test_a_picture_is_in_the_audit_log_of_its_service_only(models: dict[str, Model]):
    sent = encode("PNG", (41, 43))
    assert models["skin"].predict(sent).status_code == 200
    digest = hashlib.sha256(sent).hexdigest()
    assert {name: digest in model.server.audit.read_text() for name, model in models.items()} == {
        "skin": True,
        "retina": False,
    }


def test_a_key_of_one_service_is_unknown_to_the_other(models: dict[str, Model], picture: bytes):
    answer = models["retina"].predict(picture, headers=models["skin"].headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "key_unknown")
    assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("announced", [True, False], ids=["with its length", "in chunks"])
def test_a_body_above_the_limit_of_the_service_is_refused_with_this_limit(models: dict[str, Model], announced: bool):
    piece = bytes(MEBIBYTE)
    headers = {**models["skin"].headers, "content-type": "image/jpeg"}
    body = 33 * piece if announced else repeat(piece, 33)
    answer = models["skin"].predict(b"", headers=headers, files=None, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert f"at most {32 * MEBIBYTE} bytes" in answer.json()["error"]["message"]


def test_a_large_body_without_a_key_is_refused_as_the_service_refuses_it(models: dict[str, Model]):
    for _ in range(5):  # the service answers while the body is still on its way
        answer = models["skin"].predict(bytes(20 * MEBIBYTE), headers={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "key_missing")


def test_a_slow_upload_has_the_time_that_the_service_gives_it(models: dict[str, Model]):
    host, _, port = models["skin"].url.removeprefix("http://").removesuffix("/skin").partition(":")
    lines = ["POST /skin/predict HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {models['skin'].key}"]
    head = "\r\n".join([*lines, "Content-Type: image/jpeg", "Content-Length: 1000", "", ""])
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + bytes(10))
        began = time.monotonic()
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer
    assert time.monotonic() - began < BODY_SECONDS + 10


def test_links_of_pages_stay_below_the_path(models: dict[str, Model]):
    root = models["retina"].url
    with httpx.Client(timeout=60) as http:
        for start in ("", "/", "/docs", "/docs/"):
            page = http.get(root + start, follow_redirects=True)
            assert (page.status_code, str(page.url)) == (200, f"{root}/docs")
        links = [urljoin(str(page.url), link) for link in re.findall(r'(?:href|src)="(?!data:)([^"]+)"', page.text)]
        assert len(links) == 3
        for link in links:
            assert link.startswith(f"{root}/")
            assert http.get(link).status_code == 200
        (named,) = re.findall(r'url: "([^"]+)"', http.get(f"{root}/docs/start.js").text)
        description = http.get(urljoin(str(page.url), named))
        base = urljoin(str(description.url), description.json()["servers"][0]["url"])
        assert base == f"{root}/"
        assert http.get(f"{base.rstrip('/')}/model", headers=models["retina"].headers).status_code == 200


def test_prometheus_scrapes_each_service_with_its_own_key_and_names_it(models: dict[str, Model], tmp_path: Path):
    text = (ROOT / "infra/prometheus/models.yml").read_text()
    for address, model in zip(("service:3000", "retina:3000"), models.values(), strict=True):
        assert text.count(f'"{address}"') == 1
        text = text.replace(address, f"127.0.0.1:{model.server.port}")
    content = yaml.safe_load(text)
    content["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(content))
    shutil.copytree(ROOT / "monitoring/prometheus/rules", tmp_path / "rules")
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets/alertmanager.yml").write_text("[]")
    for name, folder in (("skin", "keys"), ("retina", "retina-keys")):
        (tmp_path / folder).mkdir()
        shutil.copy(models[name].scrape, tmp_path / folder / "service.key")
    port = free_port()
    command = [needs("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with started([*command, f"--web.listen-address=127.0.0.1:{port}"], env={}, log=tmp_path / "log"):
        prometheus = RunningPrometheus(f"http://127.0.0.1:{port}")
        wait_until(lambda: answers(f"{prometheus.url}/-/ready"), 60, "Prometheus")

        def up() -> dict[str, str]:
            found = prometheus.get("query", query='up{job="buckler-service"} == 1')["result"]
            return {each["metric"]["service"]: each["metric"]["instance"] for each in found}

        expected = {name: f"127.0.0.1:{model.server.port}" for name, model in models.items()}
        wait_until(lambda: up() == expected, 60, "Prometheus to scrape both services")
        query = 'sum by (service) (buckler_model_info{model=~".+"})'
        wait_until(lambda: len(prometheus.values(query)) == len(MODELS), 30, "the models' names")
        wait_until(lambda: len(prometheus.values("job:buckler_pictures:increase15m")) == len(MODELS), 60, "the rules")


# The last one: it stops a service.
def test_a_stopped_service_concerns_its_own_path_only(models: dict[str, Model], picture: bytes):
    end(models["skin"].server.process)
    refused = models["skin"].predict(picture)
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "service_unreachable")
    assert models["retina"].predict(picture).status_code == 200
    with (
        Client(models["skin"].url, key=models["skin"].key, retries=1, sleep=lambda _: None) as service,
        pytest.raises(ServiceError, match="the service skin gives no answer"),
    ):
        service.predict(picture)
