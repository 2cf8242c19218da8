"""Which release serves as a real MLflow registry changes: the champion, else the last good one."""

import shutil
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from buckler import signing, tracking
from services.classifier.loading import load_served
from services.classifier.settings import Settings

pytestmark = pytest.mark.slow


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("buckler_model_refused_total", {"reason": reason}) or 0


def make_champion(release: Path, settings: Settings) -> str:
    """Register ``release`` and move the alias to it by hand, as nothing but MLflow would stop anyone from."""
    run = tracking.start_run("service", "test", {})
    uri = tracking.log_release(run, release, labels=["benign", "malignant"], image_size=32)
    tracking.finish_run(run)
    version = tracking.register(settings.model_name, uri, tags={}, description="test")
    tracking.set_alias(settings.model_name, tracking.CHAMPION, version)
    return version


@pytest.fixture
def settings(
    tmp_path: Path,
    keys: Path,
    mlflow_database: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Settings:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_database)
    monkeypatch.setenv(signing.VERDICT_KEY_ENV, str(keys / signing.PUBLIC_KEY_FILE))
    monkeypatch.chdir(tmp_path)
    return Settings(model_name=f"service-{request.node.name}", releases_dir=tmp_path / "releases")


def test_the_champion_serves_until_the_alias_points_at_bytes_that_do_not_hold(settings, release, tmp_path, monkeypatch):
    assert load_served(settings) is None  # no champion yet
    assert refused("unavailable") >= 1

    first = make_champion(release, settings)
    served = load_served(settings)
    assert served is not None
    assert served.version == first
    assert served.predictor.digest == signing.directory_digest(release / signing.MODEL_DIR)

    tampered = Path(shutil.copytree(release, tmp_path / "tampered" / "release"))
    (tampered / "model/detector.json").write_text("{}")
    second = make_champion(tampered, settings)
    before = refused("digest")
    served = load_served(settings)
    assert served is not None
    assert (served.version, second) == (first, "2")
    assert refused("digest") == before + 1
    kept = [path.name for path in settings.releases_dir.iterdir() if path.is_dir()]
    assert kept == [signing.directory_digest(release).replace(":", "-")]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/nowhere/mlflow.db")
    before = refused("unavailable")
    served = load_served(settings)
    assert served is not None
    assert served.version == first
    assert refused("unavailable") == before + 1


def test_a_last_good_release_that_was_changed_on_disk_does_not_serve(settings, release, tmp_path):
    make_champion(release, settings)
    assert load_served(settings) is not None
    tracking.connect().delete_registered_model_alias(settings.model_name, tracking.CHAMPION)
    assert load_served(settings) is not None
    for path in settings.releases_dir.glob("sha256-*/model/detector.json"):
        path.write_text("{}")
    assert load_served(settings) is None
