"""A process that ends when the one that started it ends, so that nothing runs on beside its successor."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "BUCKLER_END_WITH"  # the process id; set by the process that starts another
GRACE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 1.0
STDERR: Final = 2


def ending_with_this_process() -> Mapping[str, str]:
    """Return the environment variable with which a child that calls `end_with_parent` ends after this process."""
    return {VARIABLE: str(os.getpid())}


def end_with_parent() -> None:
    """End this process as soon as the one that ``BUCKLER_END_WITH`` names has ended; do nothing without it.

    It gets SIGTERM, and ten seconds later it ends whatever it does. Its own children do not inherit the variable.
    """
    text = os.environ.pop(VARIABLE, "")
    if text.isdecimal():
        threading.Thread(target=_end_after, args=(int(text),), name="end-with-parent", daemon=True).start()


def _end_after(pid: int) -> None:
    _wait(pid)
    with contextlib.suppress(OSError):  # the reader may have ended, too
        os.write(STDERR, f"error: process {pid}, for which this one works, has ended; so does this one\n".encode())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)


def _wait(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux, or a kernel before 5.3
        while _exists(pid):
            time.sleep(POLL_SECONDS)
        return
    select.select([descriptor], [], [])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
