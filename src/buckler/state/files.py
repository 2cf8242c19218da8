"""Atomic writes: after a crash, a full disk or a power failure, a file or directory is the old one or the new one."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE, SHARED = 0o600, 0o666  # the umask still applies


def write(path: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Replace the file ``path`` by ``content``; after an error it is unchanged.

    Args:
        path: File in an existing directory.
        content: New content of the file.
        mode: Permissions of the new file; by default only its owner can read it.

    Raises:
        OSError: The file cannot be written.
    """
    with replacing(path) as aside:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path for a new file that replaces ``path`` on exit; after an error ``path`` is unchanged.

    The yielded path has the same suffix, is in the same directory and does not exist yet.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}{path.suffix}")
    try:
        yield aside
        _sync(aside, os.O_RDONLY)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextmanager
def replacing_directory(destination: Path) -> Iterator[Path]:
    """Yield an empty directory that replaces ``destination`` on exit; after an error nothing has changed."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}-") as scratch:
        aside, before = Path(scratch) / "new", Path(scratch) / "old"
        aside.mkdir()
        yield aside
        if destination.exists():
            destination.rename(before)
        aside.rename(destination)


def sync_directory(directory: Path) -> None:
    """Flush the names of the files in ``directory`` to disk; otherwise, a power failure can lose new names."""
    _sync(directory, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
