"""Prometheus' own programs, where they are installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def needs(program: str) -> str:
    """Return where a program is; without it a test fails in CI and is skipped elsewhere."""
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not installed (Debian: prometheus, prometheus-alertmanager)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def run(program: str, *arguments: str | Path) -> str:
    """Return what one of them prints; it must succeed."""
    command = [needs(program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
