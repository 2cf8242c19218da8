"""Entry point of every stage: runs it in the project's root and reports expected errors in one line."""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from buckler.compute.machine import machine
from buckler.state import exits, startup, timings

ROOT = Path(__file__).resolve().parents[1]
REPORTS = Path("reports")


def stage(run: Callable[[], None]) -> None:
    """Call ``run`` from the project's root; expected errors become one line on stderr and exit code 1.

    Raises:
        SystemExit: With code 1, after a ``BucklerError`` or where the operating system refused something, such as disk
            or memory; with `exits.INTERRUPTED` after Ctrl-C. Any other exception is a bug and keeps its traceback.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is first imported
    os.chdir(ROOT)  # all paths in params.yaml and in manifests are relative to it
    if code := exits.run(partial(_timed, run), failed=1):
        raise SystemExit(code)


def _timed(run: Callable[[], None]) -> int:
    began = time.perf_counter()
    exits.raise_at_interrupt()
    startup.begin(ROOT)
    run()
    _record(time.perf_counter() - began)
    return 0


def _record(seconds: float) -> None:
    """Record how long the stage took; other commands than stages have no entry."""
    module = sys.modules["__main__"].__spec__
    folder, _, name = (module.name if module else "").partition(".")
    if folder == __package__:
        timings.record_stage(REPORTS, name, seconds, machine())
