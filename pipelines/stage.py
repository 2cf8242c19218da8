"""Entry point of every stage: runs it in the project's root and reports expected errors in one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from buckler.errors import BucklerError

ROOT = Path(__file__).resolve().parents[1]


def stage(run: Callable[[], None]) -> None:
    """Call ``run`` from the project's root; a ``BucklerError`` becomes one line on stderr and exit code 1.

    Raises:
        SystemExit: With code 1, after a ``BucklerError``. Any other exception is a bug and keeps its
            traceback.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is first imported
    os.chdir(ROOT)  # all paths in params.yaml and in manifests are relative to it
    try:
        run()
    except BucklerError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
