"""One server as a process: starts it, waits until it answers, stops it. Its pid file and log are in .buckler/run/."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.local import places
from infra.local.places import LocalError

START_SECONDS = 300
STOP_SECONDS = 15  # from SIGTERM to SIGKILL


@dataclass(frozen=True)
class Process:
    """One server: how to start it and where it answers.

    Attributes:
        health: Path that answers once the server is up.
        pages: Name of each page -> its path, or alternative paths separated by blanks.
    """

    name: str
    command: list[str]
    port: int
    health: str
    pages: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Return the file with its output."""
        return places.run_directory() / f"{self.name}.log"

    @property
    def address(self) -> str:
        """Return its root address."""
        return url(self.port)


def url(port: int) -> str:
    """Return the root address of the server at ``port`` of this machine."""
    return f"http://127.0.0.1:{port}"


def running(name: str) -> int | None:
    """Return the pid of the server ``name`` if it runs, else None; reap it if it is a finished child."""
    try:
        pid = int(_pid_file(name).read_text(encoding="utf-8"))
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        os.kill(pid, 0)
        return pid if _is_ours(pid) else None
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None


def start(process: Process) -> None:
    """Start ``process`` in a session of its own."""
    with process.log.open("wb") as log:
        child = subprocess.Popen(
            process.command,
            cwd=places.ROOT,
            # Jobs of the watch draw no progress bars in their log.
            env=places.environment() | {"TQDM_DISABLE": "1"} | dict(process.env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _pid_file(process.name).write_text(str(child.pid), encoding="utf-8")


def wait(process: Process) -> None:
    """Wait until ``process`` answers.

    Raises:
        LocalError: It has ended, or does not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if answers(process.address + process.health):
            return
        if not running(process.name):
            break
        time.sleep(0.3)
    tail = "\n".join(process.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    raise LocalError(f"{process.name} did not start; the end of {process.log}:\n{tail}")


def stop(names: Sequence[str]) -> None:
    """Stop those of the servers ``names`` that run, with SIGTERM first."""
    found = {name: pid for name in names if (pid := running(name))}
    for pid in found.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for name, pid in found.items():
        while running(name) and time.monotonic() < deadline:
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    for name in names:
        _pid_file(name).unlink(missing_ok=True)


def answers(address: str) -> bool:
    """Return whether ``address`` answers without an error."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def first_page(process: Process, paths: Sequence[str]) -> str:
    """Return the address of the first path that answers, else of the last path."""
    addresses = [process.address + path for path in paths]
    return next((each for each in addresses[:-1] if answers(each)), addresses[-1])


def _pid_file(name: str) -> Path:
    return places.run_directory() / f"{name}.pid"


def _is_ours(pid: int) -> bool:
    # A pid file can survive a reboot; the pid may then belong to another process.
    if not Path("/proc").is_dir():
        return True
    try:
        return Path(f"/proc/{pid}/cwd").resolve() == places.ROOT
    except OSError:
        return False
