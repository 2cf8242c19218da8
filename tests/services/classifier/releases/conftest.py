"""Fixtures of the tests of what a service loads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.classifier.settings import Settings
from tests.key_files import public_env
from tests.services import registry_models
from tests.services.champions import forget
from tests.services.registry_models import Maker, RegistryModel


@pytest.fixture(scope="module")
def service_environment(keys: Path, mlflow_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The shared registry and the public keys, in a project of the module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_database)
        for variable, value in public_env(keys).items():
            patch.setenv(variable, value)
        patch.chdir(tmp_path_factory.mktemp("project"))
        yield


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Settings of a service with a model that no other test uses."""
    return registry_models.settings_in(tmp_path, request.node.nodeid)


@pytest.fixture
def registry(settings: Settings, keys: Path) -> Iterator[RegistryModel]:
    yield RegistryModel(settings.model_name, keys)
    forget(settings.model_name)


@pytest.fixture
def make(release: Path, keys: Path, tmp_path: Path, settings: Settings) -> Maker:
    return Maker(release, keys, tmp_path, settings.model_name)
