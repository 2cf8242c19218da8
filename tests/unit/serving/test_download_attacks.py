"""What a writer of the registry, or of an artifact server, can do with the source of a version."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from buckler.errors import DownloadError, RegistryError
from buckler.serving.registry import Registry, tracking_uri
from buckler.serving.release_cache import ReleaseCache
from buckler.trust.verdict import open_release
from tests import artifact_servers, projects
from tests.artifact_servers import PROXY, ArtifactServer, Request

SECRET = "s3cr3t"


@pytest.fixture
def server() -> Iterator[ArtifactServer]:
    with artifact_servers.running() as server:
        yield server


@pytest.fixture
def other() -> Iterator[ArtifactServer]:
    with artifact_servers.running() as server:
        yield server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "buckler")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)


@pytest.fixture
def model(registry: str) -> Registry:
    return Registry(registry, projects.KEYS)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch):
    def allow_one(server: ArtifactServer, **limits: str) -> None:
        monkeypatch.setenv("BUCKLER_ARTIFACT_SOURCES", f"{server.url}{PROXY}")
        for name, value in limits.items():
            monkeypatch.setenv(f"BUCKLER_DOWNLOAD_{name.upper()}", value)

    return allow_one


def registered(model: Registry, source: str) -> str:
    """Register a version as anybody who can write the registry can."""
    client = MlflowClient()
    client.create_registered_model(model.model)
    return str(client.create_model_version(model.model, source).version)


@contextmanager
def connect_database() -> Iterator[sqlite3.Connection]:
    """The tables of the registry, as its owner can change them."""
    with closing(sqlite3.connect(tracking_uri().removeprefix("sqlite:///"))) as database, database:
        yield database


def download(model: Registry, source: str, directory: Path) -> Path:
    return model.download(registered(model, source), directory / "release")


def refuses(model: Registry, source: str, directory: Path) -> str:
    """Return why nothing was downloaded, and check that nothing is left."""
    with pytest.raises(RegistryError) as caught:
        download(model, source, directory / "cache")
    assert list((directory / "cache").iterdir()) == []
    return str(caught.value)


def test_a_server_that_only_the_registry_names_is_not_even_asked(model, server, project, tmp_path):
    projects.build(project, name=model.model)
    server.add(project / "models/release")
    assert f"its source {server.source} is not allowed" in refuses(model, server.source, tmp_path)
    assert server.received == []


def test_an_allowed_server_gets_no_credentials_of_the_tracking_server(
    model, server, project, tmp_path, allow, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    (tmp_path / ".netrc").write_text(f"default login buckler password {SECRET}")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    verdict = projects.build(project, name=model.model)
    server.add(project / "models/release")
    allow(server)
    found = download(model, server.source, tmp_path / "cache")
    assert open_release(found, projects.PUBLIC) == verdict
    assert server.received
    assert server.credentials == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(model, server, other, tmp_path, allow, status):
    server.files["1/data/release/verdict.json"] = b"{}"
    allow(server)

    def redirect(request: Request) -> None:
        if "?" in request.path:
            server.proxy(request)
        else:
            request.send(b"", status, Location=f"{other.url}/verdict.json")

    server.answer = redirect
    problem = refuses(model, server.source, tmp_path)
    assert other.received == []
    assert "a redirect, which is not followed" in problem


@pytest.mark.parametrize(
    "name", ["../escaped", "..", "/tmp/escaped", "model\\..\\..\\escaped", "model/escaped", "", ".", "a\x00b", 7]
)
def test_a_name_that_leads_elsewhere_is_not_written(model, server, tmp_path, allow, name):
    allow(server)
    server.answer = lambda request: request.send(json.dumps({"files": [{"path": name, "is_dir": False}]}).encode())
    assert "expected plain names of files" in refuses(model, server.source, tmp_path)
    assert not list(tmp_path.rglob("*escaped*"))


def test_directories_without_end_are_not_followed(model, server, tmp_path, allow):
    allow(server)
    server.answer = lambda request: request.send(json.dumps({"files": [{"path": "again", "is_dir": True}]}).encode())
    assert "nested directories" in refuses(model, server.source, tmp_path)


def test_thousands_of_names_are_refused_before_the_first_is_fetched(model, server, tmp_path, allow):
    allow(server)
    server.files = {f"1/data/release/{number}": b"" for number in range(2000)}
    assert "more than 1000 names" in refuses(model, server.source, tmp_path)
    assert len(server.received) == 1


def test_a_list_without_end_is_not_read(model, server, tmp_path, allow):
    allow(server)

    def endless(request: Request) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(b'{"files": [')
        while not server.released.is_set():
            request.wfile.write(b" " * 2**16)

    server.answer = endless
    assert "expected a list of at most" in refuses(model, server.source, tmp_path)


def test_a_body_without_end_stops_at_the_limit(model, server, tmp_path, allow):
    allow(server, megabytes="1")
    server.files["1/data/release/verdict.json"] = b""

    def endless(request: Request) -> None:
        if "?" in request.path:
            server.proxy(request)
            return
        request.send_response(200)
        request.end_headers()
        while not server.released.is_set():
            request.wfile.write(b" " * 2**16)

    server.answer = endless
    assert "expected at most 1 MiB" in refuses(model, server.source, tmp_path)


@pytest.mark.parametrize("stall", [ArtifactServer.trickle, ArtifactServer.keep_silent])
def test_a_server_that_stalls_ends_the_download_at_its_deadline(model, server, tmp_path, allow, stall):
    allow(server, seconds="2")
    server.files["1/data/release/verdict.json"] = b""
    server.answer = lambda request: stall(server, request)
    assert "did not provide the release within 2 s" in refuses(model, server.source, tmp_path)


def test_a_body_that_ends_early_is_no_release(model, server, tmp_path, allow):
    allow(server)
    server.files["1/data/release/verdict.json"] = b""

    def short(request: Request) -> None:
        if "?" in request.path:
            server.proxy(request)
            return
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        request.wfile.write(b"half")

    server.answer = short
    assert "did not provide the release" in refuses(model, server.source, tmp_path)


@pytest.mark.parametrize("kind", ["", "file://"])
def test_a_path_outside_of_the_artifacts_is_not_copied(model, tmp_path, kind):
    (tmp_path / "elsewhere/data/release").mkdir(parents=True)
    assert "is not allowed" in refuses(model, f"{kind}{tmp_path}/elsewhere", tmp_path)


def test_a_link_among_the_artifacts_that_leads_out_of_them_is_not_followed(model, tmp_path, mlflow_database):
    artifacts = Path(mlflow_database.removeprefix("sqlite:///")).parent / "mlartifacts"
    artifacts.mkdir(exist_ok=True)
    (tmp_path / "elsewhere/data/release").mkdir(parents=True)
    link = artifacts / f"link-{model.model}"
    link.symlink_to(tmp_path / "elsewhere")
    assert "is not allowed" in refuses(model, link.as_uri(), tmp_path)


def test_a_link_in_a_release_is_not_followed(model, tmp_path, mlflow_database):
    (tmp_path / "secret").write_text(SECRET)
    stored = Path(mlflow_database.removeprefix("sqlite:///")).parent / f"mlartifacts/{model.model}"
    (stored / "data/release").mkdir(parents=True)
    (stored / "data/release/verdict.json").symlink_to(tmp_path / "secret")
    found = download(model, stored.as_uri(), tmp_path / "cache")
    assert (found / "verdict.json").is_symlink()


def test_a_pipe_in_a_release_is_not_opened(model, tmp_path, mlflow_database):
    stored = Path(mlflow_database.removeprefix("sqlite:///")).parent / f"mlartifacts/{model.model}"
    (stored / "data/release").mkdir(parents=True)
    os.mkfifo(stored / "data/release/verdict.json")
    assert "did not provide the release" in refuses(model, stored.as_uri(), tmp_path)


def test_links_in_a_circle_are_refused(model, tmp_path, mlflow_database):
    artifacts = Path(mlflow_database.removeprefix("sqlite:///")).parent / "mlartifacts"
    artifacts.mkdir(exist_ok=True)
    link = artifacts / f"circle-{model.model}"
    link.symlink_to(link)
    with pytest.raises(DownloadError):
        download(model, link.as_uri(), tmp_path / "cache")


@pytest.mark.parametrize("source", [f"models:/m-{'0' * 32}", f"runs:/{'0' * 32}/model", "models:/another/1"])
def test_a_model_or_run_that_does_not_exist_is_refused(model, tmp_path, source):
    number = registered(model, "file:///nowhere")
    with connect_database() as database:  # MLflow itself accepts no such version
        database.execute("UPDATE model_versions SET storage_location = ? WHERE name = ?", (source, model.model))
    with pytest.raises(DownloadError) as caught:
        model.download(number, tmp_path / "cache/release")
    assert caught.value.reason == "source"


def test_a_logged_model_and_a_run_are_resolved_before_they_are_checked(model, server, tmp_path):
    client = MlflowClient()
    client.create_registered_model(model.model)
    experiment = client.create_experiment(f"{model.model}-elsewhere", artifact_location=server.source)
    logged = client.create_logged_model(experiment, name="model")
    run = client.create_run(experiment)
    for source in (f"models:/{logged.model_id}", f"runs:/{run.info.run_id}/model"):
        number = str(client.create_model_version(model.model, "file:///nowhere").version)
        with connect_database() as database:
            database.execute("UPDATE model_versions SET storage_location = ? WHERE name = ?", (source, model.model))
        with pytest.raises(DownloadError, match="is not allowed"):
            model.download(number, tmp_path / "cache/release")
    assert server.received == []


def test_a_refused_source_is_a_reason_against_the_release(model, server, tmp_path):
    number = registered(model, server.source)
    with ReleaseCache(tmp_path / "cache", model).opened(model.version(number)) as release:
        assert [reason.code for reason in release.reasons] == ["source"]
