"""A copy of the files that `make up` reads, so that the developer's own servers are not affected."""

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from benchmarks.servers import free_port
from infra.local import places, ports, processes, servers


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root without servers, no port set by a variable, and free ports as the defaults."""
    for part in ("monitoring", "params.yaml", "dvc.yaml"):
        copy = shutil.copytree if (places.ROOT / part).is_dir() else shutil.copy
        copy(places.ROOT / part, tmp_path / part)
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(ports, "DEFAULTS", {name: free_port() for name in ports.DEFAULTS})
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


@pytest.fixture
def pages(root: Path, monkeypatch: pytest.MonkeyPatch):
    """Small servers in place of the platform's: each serves the files of the root."""

    def described(at: ports.Ports) -> list[processes.Process]:
        return [
            processes.Process(
                name,
                [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(at[name])],
                at[name],
                "/params.yaml",
                {name: "/"},
            )
            for name in ("service", "console")
        ]

    monkeypatch.setattr(servers, "described", described)
    yield described
    servers.stop()
