"""A copy of the files that `make up` reads, so that the developer's own servers are not affected."""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from infra.local import places, ports


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root without servers, and no port set by a variable."""
    for part in ("monitoring", "params.yaml", "dvc.yaml"):
        copy = shutil.copytree if (places.ROOT / part).is_dir() else shutil.copy
        copy(places.ROOT / part, tmp_path / part)
    monkeypatch.setattr(places, "ROOT", tmp_path)
    for name in ports.TITLES:
        monkeypatch.delenv(f"BUCKLER_{name.upper()}_PORT", raising=False)
    return tmp_path


@contextmanager
def _listener(port: int) -> Iterator[None]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


@pytest.fixture
def taken() -> Callable[[int], AbstractContextManager[None]]:
    """A function that listens at a port, as another program."""
    return _listener
