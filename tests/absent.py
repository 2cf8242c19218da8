"""Reports a program or file that a test needs and the machine lacks."""

import os
from typing import NoReturn

import pytest


def absent(message: str) -> NoReturn:
    """Fail in CI, where everything must be installed; elsewhere skip with the reason."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    # A developer may lack Prometheus or Chromium. With CI=true nothing is skipped: tests/test_absent.py.
    pytest.skip(message)
