"""Sources are compared after parsing, strictly, and only what is allowed is opened."""

import pytest

from buckler.errors import DownloadError
from buckler.serving.artifact_sources import PROXY, allowed_source

SERVER = "https://mlflow.example/base"
OWN = f"https://mlflow.example:443/base{PROXY}"


@pytest.mark.parametrize(
    ("uri", "opened"),
    [
        ("mlflow-artifacts:/1/models/m-1/artifacts", f"{OWN}/1/models/m-1/artifacts"),
        ("mlflow-artifacts:/1/", f"{OWN}/1"),
        ("mlflow-artifacts://mlflow.example/1", f"{OWN}/1"),
        ("mlflow-artifacts://MLFLOW.example:443/1", f"{OWN}/1"),
        (f"https://mlflow.example/base{PROXY}/1", f"{OWN}/1"),
    ],
)
def test_the_tracking_servers_own_proxy_is_allowed_and_gets_its_credentials(uri, opened):
    for server in (SERVER, "https://user:secret@mlflow.example:443/base/"):
        source = allowed_source(uri, server)
        assert (str(source), source.own) == (opened, True)


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts://evil.example/1",
        "mlflow-artifacts://mlflow.example:8443/1",
        "mlflow-artifacts://mlflow.example@evil.example/1",
        "mlflow-artifacts:/1/../../secret",
        "mlflow-artifacts:/1/%2e%2e/secret",
        "mlflow-artifacts:/1//2",
        f"http://mlflow.example/base{PROXY}/1",
        f"https://mlflow.example.evil/base{PROXY}/1",
        f"https://mlflow.example:443@evil.example/base{PROXY}/1",
        f"https://user:secret@mlflow.example/base{PROXY}/1",
        f"https://mlflow.example\\@evil.example/base{PROXY}/1",
        f"https://mlflow.example{PROXY}/1",
        "https://mlflow.example/other",
        "s3://bucket/prefix",
        "s3:///prefix",
        "ftp://mlflow.example/1",
        "file:///etc",
        "file://evil.example/etc",
        "/etc",
        "etc",
        "",
        "models:/m-1",
        "https://mlflow.example:port/1",
        "https://[1/1",
        "mlflow-artifacts:/1?path=2",
        "mlflow-artifacts:/1#2",
        "mlflow-artifacts:/1\n2",
        "mlflow-artifacts:/ä",
    ],
)
def test_everything_else_is_refused(uri):
    with pytest.raises(DownloadError, match="is not allowed") as caught:
        allowed_source(uri, SERVER)
    assert caught.value.reason == "source"
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("permitted", "uri"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix/1"),
        ("s3://bucket", "s3://bucket/1"),
        ("wasbs://box@account.blob.core.windows.net/1", "wasbs://box@account.blob.core.windows.net/1/2"),
        (f"http://artifacts.example{PROXY}", f"http://artifacts.example:80{PROXY}/1"),
        (f"https://artifacts.example{PROXY}", "mlflow-artifacts://artifacts.example/1"),
        ("/srv/artifacts", "file:///srv/artifacts/1"),
        ("file:///srv/my%20artifacts", "file:///srv/my%20artifacts/1"),
    ],
)
def test_a_setting_allows_more_but_gives_it_no_credentials(permitted, uri):
    assert not allowed_source(uri, SERVER, ["s3://another", permitted]).own


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/prefixed/1",
        "s3://bucket/prefix/../1",
        "s3://bucket/prefix/%2e%2e/1",
        "s3://bucket.evil/prefix/1",
        "s3://key@bucket/prefix/1",
        "s3a://bucket/prefix/1",
        "S3://bucket.evil/prefix/1",
        "/srv/artifacts/../../etc",
        "file:///srv/artifacts/%2e%2e/%2e%2e/etc",
        "https://artifacts.example/plain",
        "https://artifacts.example/plain/1",
    ],
)
def test_a_permitted_source_permits_only_what_is_below_it(uri):
    permitted = ["s3://bucket/prefix", "/srv/artifacts", "https://artifacts.example/plain"]
    with pytest.raises(DownloadError, match="is not allowed"):
        allowed_source(uri, SERVER, permitted)


def test_a_local_registry_keeps_its_artifacts_beside_its_file_and_in_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("mlartifacts", ".buckler/mlartifacts"):
        assert str(allowed_source(f"{tmp_path}/{place}/1", f"sqlite:///{tmp_path}/mlflow.db").path).endswith(
            place + "/1"
        )
    for uri in (f"{tmp_path}/elsewhere", str(tmp_path), "mlflow-artifacts:/1"):
        with pytest.raises(DownloadError, match="is not allowed"):
            allowed_source(uri, f"sqlite:///{tmp_path}/mlflow.db")


def test_a_setting_that_cannot_be_read_is_an_error():
    with pytest.raises(DownloadError, match="without empty parts"):
        allowed_source("s3://bucket/1", SERVER, ["s3://bucket/a//b"])
