"""Locks between the processes of one machine; the kernel releases them when their holder exits or is killed."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# `is_held` takes the lock for a moment; attempts during that moment are repeated.
ATTEMPTS, PAUSE_SECONDS = 5, 0.1


class HeldError(Exception):
    """Another process or thread holds the lock."""


@contextmanager
def exclusive(path: Path, *, seconds: float | None = None) -> Iterator[None]:
    """Wait for the lock of the file ``path`` and hold it; also excludes threads of the same process.

    The file is created if necessary, readable by its owner only, and never removed.

    Args:
        path: The file.
        seconds: How long to wait; None: until its holder ends. Holders of such a lock must be quick.

    Raises:
        HeldError: The lock is still held after ``seconds``.
        OSError: The file cannot be opened.
    """
    with _opened(path) as file:
        if seconds is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            end = time.monotonic() + seconds
            while not _acquired(file):
                if time.monotonic() >= end:
                    raise HeldError(f"another process has held {path} for {seconds:g} s")
        yield


@contextmanager
def exclusive_at_once(path: Path) -> Iterator[None]:
    """Hold the lock of ``path`` as `exclusive` does, but do not wait for another holder.

    Raises:
        HeldError: The lock is held.
        OSError: The file cannot be opened.
    """
    with _opened(path) as file:
        if not any(_acquired(file) for _ in range(ATTEMPTS)):
            raise HeldError(str(path))
        yield


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Wait for `exclusive` holders of ``path`` and keep them out; other `shared` holders are allowed.

    Raises:
        OSError: The file does not exist or cannot be read.
    """
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def is_held(path: Path) -> bool:
    """Return whether the lock of ``path`` is held; several processes may call this at the same time.

    Raises:
        OSError: The file cannot be opened.
    """
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _acquired(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(PAUSE_SECONDS)
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Opened for each use: flock locks the open file, not the path.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)
