"""Starts and stops servers as processes of this machine; reads their memory and processor time from /proc."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OWN_SETTINGS = ("BUCKLER_", "BENTOML_")
STOP_SECONDS = 20


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with ``settings`` in place of all variables of Buckler and BentoML."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN_SETTINGS)} | dict(settings)


def import_path(checkout: Path) -> str:
    """Return the ``PYTHONPATH`` of a checkout; without it, an environment may import another checkout's packages."""
    return os.pathsep.join((str(checkout / "src"), str(checkout)))


def free_port() -> int:
    """Return an unused port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    command: Sequence[str], *, env: Mapping[str, str], log: Path, directory: Path = ROOT
) -> "subprocess.Popen[bytes]":
    """Start a server in a new session, with its output appended to ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - fixed programs
            command, cwd=directory, env=dict(env), stdout=output, stderr=output, start_new_session=True
        )


@contextmanager
def started(
    command: Sequence[str], *, env: Mapping[str, str], log: Path, directory: Path = ROOT
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server as ``start`` until the context ends."""
    process = start(command, env=env, log=log, directory=directory)
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a server that runs in its own session: SIGTERM, then SIGKILL for processes that are left of the session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def family(pid: int) -> list[int]:
    """Return a process and its descendants, parents first."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in children.read_text().split()]
    return found


def command_of(pid: int) -> bytes:
    """Return the command line of a process; empty for one that ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def cpu_seconds(pid: int) -> float:
    """Return the processor time of one process; 0 for one that ended."""
    with suppress(OSError):
        # Fields after the name, which may contain spaces: the state is field 3, user and system time are 14 and 15.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def resident_mib(pid: int) -> float:
    """Return the resident memory of one process; 0 for one that ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)
    return 0.0
