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

from buckler.state import owners
from infra.local import logs, members, places
from infra.local.members import Member
from infra.local.places import LocalError

START_SECONDS = 300
STOP_SECONDS = 15  # from SIGTERM to SIGKILL
# Whatever the environment says, no request to this machine goes through a proxy.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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
    """Return the pid of the process that was started for the server ``name``, or None if it has ended."""
    pid, marked = _recorded(name), [member for member in members.found() if member.name == name]
    if pid is None:
        return marked[0].pid if marked else None
    if any(member.pid == pid for member in marked):
        return pid
    # Started by an earlier version, or on a system that does not show the environment of processes.
    known = members.began(pid) and members.works_here(pid) and name in members.command(pid)
    return pid if known and not marked and not _foreign(pid) else None


def remains(name: str) -> list[Member]:
    """Return what is left of the server ``name`` after the process that was started for it has ended."""
    return [] if running(name) else [member for member in members.found() if member.name == name]


def foreign(names: Sequence[str]) -> dict[str, str]:
    """Return those of the servers ``names`` that another user runs, with the user's name."""
    found = {}
    for name in names:
        pid = _recorded(name)
        uid = _foreign(pid) if pid else None
        # A later process with the number of a server that has ended began after the file was written.
        if pid and uid is not None and members.began_at(pid) <= _pid_file(name).stat().st_mtime + 1:
            found[name] = owners.name(uid)
    return found


def start(process: Process) -> None:
    """Start ``process`` in a session of its own; its output is appended to its log."""
    with logs.opened(process.log, process.command) as log:
        child = subprocess.Popen(
            process.command,
            cwd=places.ROOT,
            # Jobs of the watch draw no progress bars in their log.
            env=places.environment()
            | {"TQDM_DISABLE": "1"}
            | dict(process.env)
            | dict(members.mark(process.name, process.port)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record(process.name, child.pid)


def record(name: str, pid: int) -> None:
    """Write the pid file of the server ``name``."""
    _pid_file(name).write_text(str(pid), encoding="utf-8")


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
    raise LocalError(f"{process.name} did not start; the end of {process.log}:\n{logs.last_start(process.log)}")


def stop(names: Sequence[str]) -> list[str]:
    """Stop the servers ``names`` and what is left of them, with SIGTERM first; return those that ran.

    Raises:
        LocalError: Another user runs one of them; the others are stopped.
    """
    ran = [name for name in names if _signalled(name, signal.SIGTERM)]
    deadline, left = time.monotonic() + STOP_SECONDS, ran
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        for name in left:
            for member in remains(name):
                member.signal(signal.SIGTERM)
        left = [name for name in left if running(name) or remains(name)]
    for name in left:
        _signalled(name, signal.SIGKILL)
    others = foreign(names)
    for name in names:
        if name not in others:
            with contextlib.suppress(OSError):  # a disk that cannot be written; the number is not relied on
                _pid_file(name).unlink(missing_ok=True)
    if others:
        raise LocalError(describe_foreign(others))
    return ran


def describe_foreign(others: Mapping[str, str]) -> str:
    """Return what to do about servers of other users."""
    user = next(iter(others.values()))
    command = "sudo make down" if user == "root" else f"sudo -u {user} make down"
    return f"{', '.join(others)}: started by {user}, whose processes you may not stop; stop them with `{command}`"


def answers(address: str) -> bool:
    """Return whether ``address`` answers without an error."""
    try:
        with _DIRECT.open(address, timeout=5):
            return True
    except OSError:
        return False


def content(address: str) -> str:
    """Return what ``address`` answers; empty if it does not answer."""
    try:
        with _DIRECT.open(address, timeout=5) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except OSError:
        return ""


def first_page(process: Process, paths: Sequence[str]) -> str:
    """Return the address of the first path that answers, else of the last path."""
    addresses = [process.address + path for path in paths]
    return next((each for each in addresses[:-1] if answers(each)), addresses[-1])


def _signalled(name: str, number: int) -> bool:
    """Send a signal to the server ``name`` with its session, or to what is left of it; return whether it ran."""
    left = remains(name)
    for member in left:
        member.signal(number)
    pid = running(name)
    if pid is None:
        return bool(left)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
    return True


def _recorded(name: str) -> int | None:
    try:
        return int(_pid_file(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _foreign(pid: int) -> int | None:
    """Return the owner of a process if that is another user, of whom this process may not stop anything."""
    uid = members.owner(pid)
    return None if uid is None or os.geteuid() in (0, uid) else uid


def _pid_file(name: str) -> Path:
    return places.run_directory() / f"{name}.pid"
