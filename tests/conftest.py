"""Fixtures for several folders of tests. Helpers that tests import lie beside this file."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import projects
from tests.absent import absent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose model passes its gate, as the working directory; no key, no store."""
    monkeypatch.chdir(tmp_path)
    for variable in ("BUCKLER_SIGNING_KEY", "BUCKLER_VERDICT_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    return projects.make_project(tmp_path)


@pytest.fixture(scope="module")
def module_tmp_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory like `tmp_path` for what the tests of a module share; it goes with them unless one failed."""
    failed = request.session.testsfailed
    directory = tmp_path_factory.mktemp(request.node.path.stem)
    yield directory
    if request.session.testsfailed == failed:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of one real MLflow database; making its tables takes seconds, so tests share it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def registry(
    project: Path, mlflow_database: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """Point MLflow to the shared database and return a model name that no other test uses."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_database)
    return f"model-{abs(hash(request.node.nodeid)):x}"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures (skin/, ham7/), which no repository may hold.

    Without it a test fails in CI, where it must be, and is skipped with the reason for users who do not have it.
    """
    folder = Path(os.environ.get("BUCKLER_REAL_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
    if not folder.is_dir():
        absent(f"no real pictures at {folder}; set BUCKLER_REAL_DATA")
    return folder
