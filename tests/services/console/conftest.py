"""Consoles without other servers."""

from pathlib import Path

import pytest

from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from tests.services.console.browser import Browser, client


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, an empty registry and no keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/missing/mlflow.db")


@pytest.fixture
def ring(tmp_path: Path) -> tuple[Path, dict[Role, str]]:
    """A file of keys, and the secret of one key per role."""
    path = tmp_path / "api.json"
    return path, {role: api_keys.create(path, role=role, name=str(role))[1] for role in Role}


@pytest.fixture
def guarded(ring: tuple[Path, dict[Role, str]]) -> Browser:
    """A console that is reachable from other machines."""
    return client("https://console.hospital.example", console_host="0.0.0.0", api_keys=ring[0])
