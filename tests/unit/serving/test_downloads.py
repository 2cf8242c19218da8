"""Downloads from real servers: MLflow's own, and one that records what it is sent."""

import base64
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from buckler.errors import DownloadError, RegistryError
from buckler.release import tracking
from buckler.serving import downloads, registry
from buckler.serving.artifact_sources import Source, allowed_source
from buckler.serving.downloads import Access, DownloadSettings
from buckler.trust.verdict import open_release
from tests import artifact_servers, projects
from tests.artifact_servers import ArtifactServer
from tests.waiting import wait_for

OWN = "mlflow-artifacts:/1/data/release"


@pytest.fixture
def server() -> Iterator[ArtifactServer]:
    with artifact_servers.running() as server:
        yield server


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    places = [f"--backend-store-uri=sqlite:///{tmp_path}/server.db", f"--artifacts-destination={tmp_path}/stored"]
    log = (tmp_path / "server.log").open("wb")
    with log, subprocess.Popen([*command, *places], stdout=log, stderr=log, start_new_session=True) as process:
        try:
            wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health"), seconds=120)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.slow
def test_a_release_comes_through_a_real_mlflow_server(project, mlflow_server, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    verdict = projects.build(project, name="lesions")
    number = projects.publish(project, verdict, "lesions")
    model = tracking.WritableRegistry("lesions", projects.KEYS)
    assert open_release(model.download(number, tmp_path / "fetched"), projects.PUBLIC) == verdict
    found = registry.connect().get_model_version_download_uri("lesions", number)
    assert found.startswith("mlflow-artifacts:/")


def test_the_tracking_server_gets_its_credentials(server, tmp_path, monkeypatch):
    server.files["1/data/release/verdict.json"] = b"{}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url.replace("//", "//buckler:s3cr%40t@"))
    source = allowed_source(OWN, registry.tracking_uri())
    found = downloads.download(source, tmp_path, registry._access())
    assert (found / "verdict.json").read_bytes() == b"{}"
    assert set(server.credentials) == {f"Basic {base64.b64encode(b'buckler:s3cr@t').decode()}"}


def test_a_token_is_sent_to_the_tracking_server_only(server, tmp_path, monkeypatch):
    server.files["1/data/release/verdict.json"] = b"{}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cr3t")
    source = allowed_source(OWN, registry.tracking_uri())
    for place, own in (("own", True), ("another", False)):
        (tmp_path / place).mkdir()
        other = Source(source.scheme, source.authority, source.path, own=own)
        downloads.download(other, tmp_path / place, registry._access())
        assert set(server.credentials) == ({"Bearer s3cr3t"} if own else set())
        server.received.clear()


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_an_error_of_the_tracking_server_counts_against_the_release(server, tmp_path, status):
    server.answer = lambda request: request.send(b"", status)
    with pytest.raises(DownloadError, match=f"HTTP {status}") as caught:
        downloads.download(allowed_source(OWN, server.url), tmp_path, Access())
    assert caught.value.reason == "unavailable"


def test_a_tracking_server_without_the_files_counts_against_the_release(server, tmp_path):
    with pytest.raises(DownloadError, match="lists no files"):
        downloads.download(allowed_source(OWN, server.url), tmp_path, Access())


def test_an_unreachable_tracking_server_does_not_count_against_the_release(server, tmp_path):
    source = allowed_source(OWN, server.url)
    server.answer = lambda request: request.send(b"", 503)
    with pytest.raises(RegistryError, match="cannot reach") as busy:
        downloads.download(source, tmp_path, Access())
    server.server_close()
    (tmp_path / "release").rmdir()
    with pytest.raises(RegistryError, match="cannot reach") as gone:
        downloads.download(source, tmp_path, Access())
    assert DownloadError not in {type(busy.value), type(gone.value)}


def test_a_storage_without_its_library_is_named(tmp_path):
    with pytest.raises(DownloadError, match="No module named 'botocore'"):
        downloads.download(Source("s3", "bucket", "/1/data/release"), tmp_path, Access())


def test_a_storage_that_stalls_ends_at_the_deadline(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, and says nothing
        source = Source("ftp", f"127.0.0.1:{silent.getsockname()[1]}", "/1/data/release")
        with pytest.raises(DownloadError, match="within 5 s"):
            downloads.download(source, tmp_path, Access(), DownloadSettings(download_seconds=5))


def test_too_many_local_files_are_refused(tmp_path):
    source = tmp_path / "source/data/release"
    source.mkdir(parents=True)
    with (source / "large").open("wb") as file:
        file.truncate(2**30)  # a sparse file, of no size on this disk
    (tmp_path / "to").mkdir()
    with pytest.raises(DownloadError, match="at most 1 MiB"):
        downloads.download(
            Source("file", "", str(source)), tmp_path / "to", Access(), DownloadSettings(download_megabytes=1)
        )


def test_a_download_ends_with_the_process_that_started_it(server, tmp_path):
    server.files["1/data/release/verdict.json"] = b""
    server.answer = server.trickle
    (tmp_path / "to").mkdir()
    code = (
        "import sys; from pathlib import Path; from buckler.serving.artifact_sources import allowed_source;"
        "from buckler.serving.downloads import Access, download;"
        "download(allowed_source(sys.argv[1], sys.argv[2]), Path(sys.argv[3]), Access())"
    )
    with subprocess.Popen([sys.executable, "-c", code, OWN, server.url, str(tmp_path / "to")]) as process:
        wait_for(lambda: (tmp_path / "to/release/verdict.json").exists(), seconds=60)
        (child,) = (
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and f"PPid:\t{process.pid}\n" in _status(entry)
        )
        process.kill()
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "State:\tZ" in _status(Path(f"/proc/{child}")), seconds=60)


def _status(entry: Path) -> str:
    try:
        return (entry / "status").read_text()
    except OSError:
        return ""
