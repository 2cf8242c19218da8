"""The processes of this project's servers, found by a mark in their environment.

A server marks the processes that it starts, too: they inherit the variable. So what a killed server leaves behind is
found, although it has other ids and parents. A process belongs to this project if it works in the project's folder: a
copied project has another one, and a renamed one still contains its processes.
"""

import contextlib
import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.local import places

MARK = "BUCKLER_SERVER"  # NAME:PORT:FOLDER
PROC = Path("/proc")


@dataclass(frozen=True, order=True)
class Member:
    """One process of a server; ``began`` tells it from a later one with its number."""

    began: str
    pid: int
    name: str
    port: int

    def signal(self, number: int) -> None:
        """Send a signal to the process unless it has ended."""
        if began(self.pid) == self.began:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def mark(name: str, port: int) -> Mapping[str, str]:
    """Return the variable that marks the processes of the server ``name``."""
    return {MARK: f"{name}:{port}:{places.ROOT}"}


def found() -> list[Member]:
    """Return this user's marked processes, oldest first; none on systems without /proc."""
    if not PROC.is_dir():
        return []
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())
    return sorted(member for pid in pids if pid != os.getpid() and (member := _member(pid)))


def began(pid: int) -> str | None:
    """Return when a process began, as text that no other process with its number has; None if it has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a finished child of this process would seem to run
    if not PROC.is_dir():
        return _ps("lstart", pid).strip() or None
    try:
        # Fields after the name, which may contain spaces: the state is field 3, the start 22.
        state, *fields = (PROC / f"{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else f"{_boot()}:{fields[18]:0>20}"


def began_at(pid: int) -> float:
    """Return when a process began, in seconds since 1970; infinity if it has ended or the system does not tell."""
    start = began(pid)
    try:
        lines = (PROC / "stat").read_text(encoding="ascii").splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    except (OSError, StopIteration):
        return math.inf
    return boot + int(start.rpartition(":")[2]) / os.sysconf("SC_CLK_TCK") if start else math.inf


def command(pid: int) -> str:
    """Return the command line of a process; empty if it has ended."""
    if not PROC.is_dir():
        return _ps("command", pid)
    try:
        return os.fsdecode((PROC / f"{pid}/cmdline").read_bytes()).replace("\0", " ")
    except OSError:
        return ""


def owner(pid: int) -> int | None:
    """Return the user id of a process; None if it has ended or the system does not tell."""
    try:
        return (PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def works_here(pid: int) -> bool:
    """Return whether a process works in the project's folder."""
    if not PROC.is_dir():
        return True
    try:
        return (PROC / f"{pid}/cwd").samefile(places.ROOT)
    except OSError:
        return False


def _ps(column: str, pid: int) -> str:
    command = ["/bin/ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


def _member(pid: int) -> Member | None:
    try:
        entries = (PROC / f"{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # ended, or of another user
        return None
    text = next((os.fsdecode(entry) for entry in entries if entry.startswith(MARK.encode() + b"=")), "")
    name, _, rest = text.partition("=")[2].partition(":")
    port, _, folder = rest.partition(":")
    begin = began(pid) if port.isdecimal() and (works_here(pid) or _lost(pid, folder)) else None
    return Member(begin, pid, name, int(port)) if begin else None


def _lost(pid: int, folder: str) -> bool:
    """Return whether a process was started for this folder, which has been deleted and created again."""
    with contextlib.suppress(OSError):
        return folder == str(places.ROOT) and str((PROC / f"{pid}/cwd").readlink()).endswith(" (deleted)")
    return False


def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
