"""The servers' logs: appended, with a line at each start, and bounded by size.

The servers hold their log open, and some are not ours. So a large log is copied, then emptied; the servers append to
the same file. `python -m infra.local.logs FOLDER` does that for all logs of a folder while servers run.
"""

import contextlib
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from infra.local import members

NAME = "logs"
LIMIT_BYTES = 10 * 1024 * 1024
KEPT = 5  # copies of each log: NAME.log.1 is the newest
PERIOD_SECONDS = 5.0
START = "=== "
_SHOWN_LINES = 15
_CREDENTIALS = re.compile(r"//[^/@\s]*@")


@contextmanager
def opened(log: Path, command: Sequence[str]) -> Iterator[IO[bytes]]:
    """Yield ``log`` to append to, after a line with time and command.

    Raises:
        OSError: It cannot be opened.
    """
    with log.open("ab", buffering=0) as file:
        shown = _CREDENTIALS.sub("//", shlex.join(command))
        with contextlib.suppress(OSError):  # a full disk stops no server
            file.write(f"{START}{datetime.now().astimezone().isoformat(timespec='seconds')} {shown}\n".encode())
        yield file


def last_start(log: Path) -> str:
    """Return the end of what a server wrote since its last start, at most 15 lines."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    since = max((n for n, line in enumerate(lines) if line.startswith(START)), default=-1)
    return "\n".join(lines[since + 1 :][-_SHOWN_LINES:])


def rotate(log: Path) -> None:
    """Move the content of a large log into its first copy; the last copy is deleted.

    A line that is written between the copy and its end is lost. On a full disk the log stays as it is.
    """
    if log.stat().st_size < LIMIT_BYTES:
        return
    copies = [log.with_name(f"{log.name}.{number}") for number in range(1, KEPT + 1)]
    new = log.with_name(f"{log.name}.new")
    try:
        copies[-1].unlink(missing_ok=True)
        shutil.copyfile(log, new)
    except OSError:
        new.unlink(missing_ok=True)
        return
    for newer, older in zip(reversed(copies[:-1]), reversed(copies[1:]), strict=True):
        if newer.exists():
            newer.replace(older)
    new.replace(copies[0])
    os.truncate(log, 0)


def main(folder: Path) -> None:
    """Rotate the logs in ``folder`` until no server has run for a minute."""
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < 60:
        for log in folder.glob("*.log"):
            with contextlib.suppress(OSError):
                rotate(log)
        if any(_runs(file) for file in folder.glob("*.pid") if file.stem != NAME):
            idle_since = time.monotonic()
        time.sleep(PERIOD_SECONDS)


def _runs(pid_file: Path) -> bool:
    try:
        return members.began(int(pid_file.read_text(encoding="utf-8"))) is not None
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]))
