"""How commands and stages end: exit codes, and one line where Python would print a traceback."""

import errno
import io
import os
import shutil
import signal
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from buckler.errors import BucklerError
from buckler.state import owners

# As a shell's for a program that a signal ended: SIGINT, and SIGPIPE.
INTERRUPTED: Final = 128 + signal.SIGINT
READER_GONE: Final = 128 + signal.SIGPIPE

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})
_FULL_BYTES: Final = 64 * 1024  # less free space than this is none


def run(program: Callable[[], int], *, failed: int) -> int:
    """Run ``program`` and return the exit code; what is no bug becomes one line on stderr.

    Args:
        program: Returns its own exit code.
        failed: The exit code after a ``BucklerError``, or where the operating system refused something.
    """
    try:
        try:
            return program()
        finally:
            sys.stdout.flush()
    except BucklerError as error:
        sys.stderr.write(f"error: {error}\n")
    except BrokenPipeError:
        return reader_gone()
    except (OSError, MemoryError) as error:
        sys.stderr.write(f"error: {explain(error)}\n")
    except KeyboardInterrupt:
        return interrupted()
    return failed


def interrupted() -> int:
    """Say that the program was interrupted, ignore further interrupts, and return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stderr.write("interrupted\n")
    return INTERRUPTED


def reader_gone() -> int:
    """Let the interpreter end in silence after the reader of standard output has gone; return the exit code."""
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    return READER_GONE


def end_at_interrupt() -> None:
    """End this process with one line at an interrupt while it imports, until `raise_at_interrupt`.

    Raised while a library is imported, ``KeyboardInterrupt`` becomes a traceback, or an error of that library.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_at_interrupt() -> None:
    """Raise ``KeyboardInterrupt`` at an interrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(INTERRUPTED)


def explain(error: OSError | MemoryError) -> str:
    """Return one line for people: what the operating system refused, for which file, and what to do."""
    if isinstance(error, MemoryError):
        return (
            f"not enough memory{f': {error}' if str(error) else ''}; lower batch_size or data.image_size in params.yaml"
        )
    path = _path_of(error)
    where = path or "a file"
    full = [str(place) for place in _places(path) if _is_full(place)]
    if error.errno in _FULL or (error.errno is None and (full or "requested and" in str(error))):  # NumPy's words
        return f"no space left on the disk of {path or ', '.join(full) or Path.cwd()}; free some and start again"
    if error.errno in _DENIED:
        todo = owners.advice(Path(path)) if path else "allow this user to read and write it"
        return f"permission denied: {where}; {todo}"
    texts = {
        errno.EFBIG: f"{where} became larger than this user's files may be (`ulimit -f`); raise the limit",
        errno.EROFS: f"{where} is on a disk that is mounted read-only; use another folder or mount it for writing",
        errno.EISDIR: f"expected a file at {where}, got a folder; rename or remove it",
        errno.ENOTDIR: f"expected a folder at {where}, got a file; rename or remove it",
        errno.ENOENT: f"there is no {where}; restore it, or run the step again that makes it",
        errno.EMFILE: "too many open files; raise the limit with `ulimit -n 4096`",
    }
    text = texts.get(error.errno or 0)
    return text or " ".join(str(error).split()) + (f" ({path})" if path and path not in str(error) else "")


def _path_of(error: OSError) -> str:
    """Return the file of ``error``; for a failed write, which Python does not name, the file that was open."""
    if error.filename is not None:
        return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]
    values = [value for frame in frames for value in frame.f_locals.values()]
    opened = (name for value in values for name in _names(value))
    return next(opened, next((str(value) for value in values if isinstance(value, Path)), ""))


def _names(value: object) -> Iterator[str]:
    name = getattr(value, "name", None) if isinstance(value, io.IOBase) else None
    name = value.filename if isinstance(value, zipfile.ZipFile) else name
    if isinstance(name, str) and not name.startswith("<"):
        yield name


def _places(path: str) -> list[Path]:
    """Return folders on the disks that were perhaps written to."""
    own = [folder for folder in Path(path).absolute().parents if folder.is_dir()][:1] if path else []
    return own or [Path.cwd(), Path(tempfile.gettempdir())]


def _is_full(place: Path) -> bool:
    try:
        return shutil.disk_usage(place).free < _FULL_BYTES
    except OSError:
        return False
