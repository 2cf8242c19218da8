"""The log of each run: stdout and stderr of its process, including C++ output, in a file of bounded size."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buckler.errors import BucklerError
from buckler.state import paths

LONGEST_LOG = 1024 * 1024  # bytes
KEPT_LOGS = 100  # of one job
CUT = b"\n[the rest is left out]\n"
DRAIN_SECONDS = 5.0  # to copy the last output


def path_of(job: str, number: int) -> Path:
    """Return the path of the log of run ``number``."""
    return paths.WATCH_LOGS / f"{job}-{number:08d}.log"


def read(number: int) -> str:
    """Return the log of run ``number``.

    Raises:
        BucklerError: There is no such run, or its log was deleted to make room for newer ones.
    """
    found = sorted(paths.WATCH_LOGS.glob(f"*-{number:08d}.log"))
    if not found:
        raise BucklerError(
            f"no log of run {number}; `buckler watch --history` lists the runs, and each job keeps its last {KEPT_LOGS}"
            " logs"
        )
    return found[0].read_text(encoding="utf-8", errors="replace")


@contextmanager
def captured(job: str, number: int) -> Iterator[None]:
    """Copy this process's stdout and stderr to the log of run ``number`` and to stderr."""
    paths.WATCH_LOGS.mkdir(parents=True, exist_ok=True)
    for old in sorted(paths.WATCH_LOGS.glob(f"{job}-*.log"))[: -KEPT_LOGS + 1]:
        old.unlink(missing_ok=True)
    reader, writer = os.pipe()
    kept = (os.dup(1), os.dup(2))
    copy = threading.Thread(target=_copy, args=(reader, kept[1], path_of(job, number)), daemon=True)
    copy.start()
    _flush()
    for descriptor in (1, 2):
        os.dup2(writer, descriptor)
    os.close(writer)
    try:
        yield
    finally:
        _flush()
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
        # With a limit: a child process that outlives the job may keep the pipe open for ever.
        copy.join(DRAIN_SECONDS)
        os.close(kept[0])


def _copy(reader: int, screen: int, path: Path) -> None:
    room = LONGEST_LOG
    with path.open("wb", buffering=0) as file:
        while content := os.read(reader, 65536):
            _write(screen, content)
            if room > 0:
                file.write(content[:room] + (CUT if len(content) > room else b""))
                room -= len(content)
    os.close(reader)
    os.close(screen)


def _write(screen: int, content: bytes) -> None:
    try:
        os.write(screen, content)
    except OSError:  # nothing reads stderr any more; the log continues
        return


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
