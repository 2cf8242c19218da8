"""One run of a job at a time: a lock that the kernel releases whenever and however its process ends."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from buckler.errors import BucklerError
from buckler.state import paths

# Whoever asks whether a job runs holds its lock for a moment: a run that begins just then tries once more.
TRIES, PAUSE_SECONDS = 5, 0.1


@contextmanager
def locked(job: str) -> Iterator[None]:
    """Hold the lock of ``job``.

    Raises:
        BucklerError: The job is already running.
    """
    with _opened(job) as file:
        for left in reversed(range(TRIES)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not left:
                    raise BucklerError(f"job {job} is running already; wait until it ends") from error
                time.sleep(PAUSE_SECONDS)
        yield


def is_running(job: str) -> bool:
    """Return whether a process holds the lock of ``job``."""
    with _opened(job) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _opened(job: str) -> IO[str]:
    paths.WATCH.mkdir(parents=True, exist_ok=True)
    return (paths.WATCH / f"{job}.lock").open("w")
