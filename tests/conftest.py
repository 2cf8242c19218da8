"""Fixtures for several folders of tests. Modules that tests import are in this folder, too."""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from buckler.state import proxies
from tests import projects
from tests.absent import absent
from tests.key_files import KEY_VARIABLES
from tests.softhsm import CONFIGURATION, SoftHSM


def pytest_configure() -> None:
    """Remove the developer's own settings; some test modules read settings when they are collected."""
    for name in [name for name in os.environ if name.startswith("BUCKLER_") and name != "BUCKLER_REAL_DATA"]:
        del os.environ[name]
    proxies.exempt_loopback()
    gc.disable()  # The collection imports for 15 seconds and has no garbage; searching for it takes a quarter of them.


def pytest_collection_finish() -> None:
    """Exempt what is imported from garbage collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose model passes its gate, as the working directory, without keys and model registry."""
    monkeypatch.chdir(tmp_path)
    for variable in (*KEY_VARIABLES, "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    return projects.make_project(tmp_path)


@pytest.fixture(scope="module")
def module_tmp_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory like `tmp_path` that the tests of a module share; removed afterwards unless one of them failed."""
    failed = request.session.testsfailed
    directory = tmp_path_factory.mktemp(request.node.path.stem)
    yield directory
    if request.session.testsfailed == failed:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHSM]:
    """An empty directory of tokens; the library reads the variable once in a process, so all tests share it."""
    tokens = SoftHSM(tmp_path_factory.mktemp("softhsm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONFIGURATION, str(tokens.configure()))
        yield tokens


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of one real MLflow database, shared because creating its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def registry(
    project: Path, mlflow_database: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """Point MLflow to the shared database and return a model name that no other test uses."""
    import mlflow  # only tests with a registry wait for it

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_database)
    mlflow.set_tracking_uri(mlflow_database)  # the address that an earlier test set would win over the variable
    return f"model-{abs(hash(request.node.nodeid)):x}"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures (skin/, ham7/), which may not be published.

    Without the folder, the test fails in CI and is skipped, with the reason, elsewhere.
    """
    folder = Path(os.environ.get("BUCKLER_REAL_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
    if not folder.is_dir():
        absent(f"no real pictures at {folder}; set BUCKLER_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def case_files(real_data: Path) -> Path:
    """The folder of files and requests of other programs, one folder a case, beside that of the real pictures."""
    folder = real_data.parent / "cases/files"
    if not folder.is_dir():
        absent(f"no cases at {folder}")
    return folder
