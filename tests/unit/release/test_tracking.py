import socket
from pathlib import Path

import pytest

from buckler.errors import RegistryError
from buckler.release import tracking
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import (
    DIGEST_TAG,
    HEAD_TAG,
    PROMOTION_TAG,
    Registry,
    connect,
    registry_id,
    shown_uri,
)
from buckler.trust import verdict
from tests import mlflow_stores, projects


def registered(project, name):
    """Register the project's release under ``name`` and return the number of its version."""
    projects.build(project, name=name)
    run_id = tracking.start_run(name, "made by a test", {})
    uri = tracking.log_release(run_id, project / "models/release", labels=projects.LABELS, shape=(32, 32, 3))
    tracking.finish_run(run_id)
    return WritableRegistry(name).register(uri, tags={DIGEST_TAG: "sha256:0"}, description="")


def test_the_champions_release_is_downloaded_completely(project, registry):
    number, model = registered(project, registry), WritableRegistry(registry)
    assert model.by_alias(CHAMPION) is None
    model.set_alias(CHAMPION, number)
    path = model.download(model.champion().version, project / "cache/release")
    assert verdict.verify_release(path, projects.PUBLIC).passed
    assert [entry.name for entry in (project / "cache").iterdir()] == ["release"]


def test_a_version_has_its_tags(project, registry):
    number, model = registered(project, registry), WritableRegistry(registry)
    model.tag(number, PROMOTION_TAG, "of the version")
    model.tag_model(PROMOTION_TAG, "of the model")
    model.tag_model(HEAD_TAG, "the last")
    model.set_alias(CHAMPION, number)
    version = model.version(number)
    assert (version.digest, version.registry) == ("sha256:0", "local")
    assert (version.promotion, version.latest, version.head) == ("of the version", "of the model", "the last")
    assert model.versions() == [version] == [model.champion()]


@pytest.mark.parametrize(
    ("uri", "named", "expected"),
    [
        ("", "", "local"),
        ("sqlite:////srv/mlflow.db", "", "local"),
        ("http://user:secret@mlflow.ward:5000/", "", "mlflow.ward:5000"),
        ("https://mlflow.ward/registry", "", "mlflow.ward/registry"),
        ("https://mlflow.ward/registry", "production", "production"),
    ],
)
def test_the_id_of_a_registry_is_configured_or_follows_from_its_address(monkeypatch, uri, named, expected):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("BUCKLER_REGISTRY_ID", named)
    assert registry_id() == expected


def test_without_a_champion_the_error_names_the_next_step(project, registry):
    with pytest.raises(RegistryError, match="buckler promote"):
        Registry(registry).champion()
    assert Registry(registry).versions() == []


def test_an_unknown_version_is_named(project, registry):
    registered(project, registry)
    with pytest.raises(RegistryError, match="version 99"):
        Registry(registry).version("99")


def test_an_unreachable_server_is_one_readable_error(project, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match="looking for the champion") as caught:
        Registry("skin-lesion").by_alias(CHAMPION)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_promotion_that_does_not_end_is_not_waited_for_without_end(project, monkeypatch):
    monkeypatch.setattr(tracking, "LOCK_SECONDS", 0.2)
    with (
        tracking.one_writer(),
        pytest.raises(RegistryError, match=r"has held .*promotion\.lock for 0\.2 s: a promotion or claim is being"),
        tracking.one_writer(),
    ):
        pass


def test_the_shown_address_has_no_credentials(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@mlflow.example:5000/path")
    assert shown_uri() == "https://mlflow.example:5000/path"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:p@ss@db/mlflow")
    assert shown_uri() == "postgresql://db/mlflow"


def test_without_a_server_the_projects_own_database_is_used(project):
    with mlflow_stores.opened_anew():
        assert Registry("skin-lesion").versions() == []
        assert (project / ".buckler/mlflow.db").exists()
        assert not (project / "mlruns").exists()


def test_artifacts_are_stored_beside_the_database(project, registry, mlflow_database):
    registered(project, registry)
    database = Path(mlflow_database.removeprefix("sqlite:///"))
    uri = connect().get_model_version_download_uri(registry, "1")
    assert Path(uri.removeprefix("file://")).is_relative_to(database.parent / "mlartifacts")
    assert not (project / ".buckler/mlartifacts").exists()
    assert not (project / "mlruns").exists()


def test_a_models_requirements_are_pinned():
    pins = dict(requirement.split("==") for requirement in tracking.requirements())
    assert {"keras", "numpy"} <= pins.keys()
    assert any(name.startswith("tensorflow") for name in pins)


def test_a_job_is_recorded_as_a_finished_run(project, registry):
    run_id = tracking.start_run(registry, "reevaluate", {tracking.KIND_TAG: "job"})
    points = [tracking.Point("robust_accuracy", 0.5, radius) for radius in (1, 2)]
    tracking.log(run_id, params={"attack": "fgsm", "images": 100}, metrics=points)
    tracking.finish_run(run_id)
    run = connect().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"attack": "fgsm", "images": "100"}
