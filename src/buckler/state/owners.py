"""To whom files belong, and what to do about a file of another user."""

import os
import pwd
from pathlib import Path


def owner(path: Path) -> str:
    """Return the name of the owner of ``path``, or of its nearest parent that exists."""
    return name(_nearest(path).lstat().st_uid)


def name(uid: int) -> str:
    """Return the user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def advice(path: Path) -> str:
    """Return whose file or folder denies this user the use of ``path``, and what to do."""
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
