"""Locks between the processes of one machine; the kernel releases them when their holder ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock file ``path`` and hold its lock; threads of one process take turns as well.

    The file is created, readable by its owner only, and stays.

    Raises:
        OSError: The file cannot be opened.
    """
    # Opened for each use: flock belongs to the open file.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
