"""Errors about files in one line: which file, whose it is, and what to do."""

import errno
import os
import pwd
from pathlib import Path
from typing import Final

_DENIED: Final = (errno.EACCES, errno.EPERM)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def explained(error: OSError, *, at: Path | None = None) -> str:
    """Return one line about a file that could not be read or written, with what to do.

    Args:
        error: The failure.
        at: The file, where the error names none.
    """
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else at
    what = f"{path or 'a file'}: {error.strerror or error}"
    if error.errno in _FULL:
        return f"cannot write {what}; free some space on its disk, then repeat the command"
    if error.errno == errno.EROFS:
        return f"cannot write {what}; mount its disk writable, or work in another folder"
    if error.errno in _DENIED and path is not None:
        return f"cannot use {what}; {_whose(path)}"
    return f"cannot use {what}"


def owner(path: Path) -> str:
    """Return the name of the owner of ``path``, or of its nearest parent that exists."""
    return name(_nearest(path).lstat().st_uid)


def name(uid: int) -> str:
    """Return the user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _whose(path: Path) -> str:
    nearest = _nearest(path.absolute())
    # A file of one's own cannot be replaced in somebody else's folder.
    denied = next((each for each in (nearest, nearest.parent) if each.lstat().st_uid != os.geteuid()), None)
    if denied is None:
        return f"{nearest} belongs to you; `chmod -R u+rwX {_top(nearest)}`"
    user = owner(denied)
    if Path.cwd().is_relative_to(denied):
        return f"{denied} belongs to {user}; run the command as {user}, or in a folder of your own"
    me = name(os.geteuid())
    return f"{denied} belongs to {user}, as after a command with sudo; `sudo chown -R {me} {_top(denied)}`"


def _top(path: Path) -> Path:
    """Return what contains ``path`` in the working directory: its other files will be denied, too."""
    try:
        return Path.cwd() / path.relative_to(Path.cwd()).parts[0]
    except (IndexError, ValueError):
        return path


def _nearest(path: Path) -> Path:
    """Return ``path`` or the nearest of its parents that can be found."""
    for each in (path, *path.absolute().parents):
        try:
            each.lstat()
        except OSError:
            continue
        return each
    return Path("/")
