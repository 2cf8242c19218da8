"""Locks that allow one run of a job at a time, whichever process starts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buckler.errors import BucklerError
from buckler.state import locks, paths


@contextmanager
def locked(job: str) -> Iterator[None]:
    """Hold the lock of ``job``.

    Raises:
        BucklerError: The job is already running.
    """
    try:
        with locks.exclusive_at_once(_path(job)):
            yield
    except locks.HeldError as error:
        raise BucklerError(f"job {job} is already running; wait until it ends") from error


def is_running(job: str) -> bool:
    """Return whether a process holds the lock of ``job``."""
    return locks.is_held(_path(job))


def _path(job: str) -> Path:
    paths.WATCH.mkdir(parents=True, exist_ok=True)
    return paths.WATCH / f"{job}.lock"
