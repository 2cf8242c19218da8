"""Counts how often the files of a directory are opened, by whatever code: Python, OpenVINO, HDF5 or another process."""

import ctypes
import os
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_OPENED, _OF_A_DIRECTORY = 0x20, 0x40000000  # IN_OPEN and IN_ISDIR of <sys/inotify.h>
_EVENT = struct.Struct("iIII")


@contextmanager
def counted(directory: Path) -> Iterator[Counter[str]]:
    """Yield a counter of relative path -> openings, which is filled when the context ends."""
    watch = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert watch >= 0, os.strerror(ctypes.get_errno())
    try:
        folders = [directory, *(path for path in directory.rglob("*") if path.is_dir())]
        names = {_LIBC.inotify_add_watch(watch, os.fsencode(folder), _OPENED): folder for folder in folders}
        assert min(names) > 0, os.strerror(ctypes.get_errno())
        found: Counter[str] = Counter()
        yield found
        found.update(path.relative_to(directory).as_posix() for path in _events(watch, names))
    finally:
        os.close(watch)


def _events(watch: int, names: dict[int, Path]) -> Iterator[Path]:
    while True:
        try:
            content = os.read(watch, 2**16)
        except BlockingIOError:
            return
        place = 0
        while place < len(content):
            number, mask, _, length = _EVENT.unpack_from(content, place)
            place += _EVENT.size
            name = content[place : place + length].rstrip(b"\0").decode()
            place += length
            if mask & _OPENED and not mask & _OF_A_DIRECTORY:
                yield names[number] / name
