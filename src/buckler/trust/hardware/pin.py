"""PINs of tokens: read from files, and never tried again after the token refused them.

Tokens lock themselves after a few wrong PINs, some for good. A watch that starts a job each minute would lock one in
minutes. So a refusal is remembered, on disk because each job is a process of its own. What is remembered is the
state of the PIN's file, never the PIN or its digest, which could be guessed: a file that was written again is
tried once.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from buckler.errors import BucklerError
from buckler.state import files, locks, paths

MAX_BYTES = 255  # no token has longer PINs; a file that is longer is another one

log = logging.getLogger(__name__)

_refused: dict[Path, str] = {}  # what `refuse` wrote; for processes that cannot write the disk


def read(path: Path) -> str:
    """Return the PIN in the first line of ``path``.

    Raises:
        BucklerError: The file cannot be read, or is not one line of text. No error repeats the content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 2)
    except OSError as error:
        raise BucklerError(f"cannot read the PIN in {path}: {error.strerror}") from error
    try:
        pin = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        pin = ""
    if not pin or not pin.isprintable() or len(pin.encode()) > MAX_BYTES:
        raise BucklerError(f"expected a PIN in {path}: one line of text in UTF-8, of at most {MAX_BYTES} bytes")
    return pin


@contextmanager
def attempt(token: str, path: Path) -> Iterator[str]:
    """Yield the PIN in ``path`` for one log-in; processes that share `.buckler` log in one after the other.

    Args:
        token: Identity of the token; any text.
        path: File with the PIN.

    Raises:
        BucklerError: The token has refused this PIN, and the file was not written since; or as `read`.
    """
    memory = _memory(token, path)
    with _one_at_a_time(memory.with_suffix(".lock")):
        _check_not_refused(memory, path)
        yield read(path)


def refuse(token: str, path: Path) -> None:
    """Remember that the token refused the PIN in ``path``."""
    memory, state = _memory(token, path), _state(path)
    _refused[memory] = state
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        files.write(memory, state.encode())
    except OSError as error:
        log.error("cannot remember in %s that a PIN was refused (%s); other processes will try it", memory, error)


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    # Of several workers that start with a wrong PIN only one may try it.
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.exclusive(path))
        except OSError as error:
            log.warning("cannot lock %s (%s); other processes may log in at the same time", path, error)
        yield


def _check_not_refused(memory: Path, path: Path) -> None:
    try:
        stored = memory.read_text()
    except (OSError, UnicodeDecodeError):
        stored = ""
    if _state(path) in (stored, _refused.get(memory)):
        raise BucklerError(
            f"the token refused the PIN in {path}, which is not tried again, because repeated tries lock a token;"
            " write the right PIN into the file, or write the file again if the token's PIN was corrected"
        )


def _memory(token: str, path: Path) -> Path:
    return paths.REFUSED_PINS / f"{hashlib.sha256(f'{token} {path}'.encode()).hexdigest()[:32]}.json"


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:
        raise BucklerError(f"cannot read the PIN in {path}: {error.strerror}") from error
    return json.dumps([found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns])
