"""What a test needs of the machine and does not find."""

import os
from typing import NoReturn

import pytest


def absent(message: str) -> NoReturn:
    """Fail in CI, where everything must be; elsewhere skip with the reason, for users who do not have it."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)  # never under `.ci/run`, which sets CI: tests/test_absent.py
