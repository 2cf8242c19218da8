"""Reports a program, file or right that a test needs and the machine lacks."""

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

import pytest


def _in_ci() -> bool:
    """Whether nothing may be skipped."""
    return os.environ.get("CI") == "true"


def absent(message: str) -> NoReturn:
    """Fail in CI, where everything must be installed; elsewhere skip with the reason."""
    if _in_ci():
        pytest.fail(message)
    # A developer may lack Prometheus or Chromium. With CI=true nothing is skipped: tests/test_absent.py.
    pytest.skip(message)


def needed(met: bool, reason: str) -> pytest.MarkDecorator:
    """Return a mark for tests that are skipped with ``reason`` unless ``met``; in CI they run all the same."""
    return pytest.mark.skipif(not met and not _in_ci(), reason=reason)


AS_ROOT: Final = needed(os.geteuid() == 0, "only root can become another user or give files away")
ON_LINUX: Final = needed(sys.platform == "linux" and Path("/proc/self/environ").exists(), "only Linux does this")
