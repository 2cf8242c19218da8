"""Runs Prometheus' own programs, where they are installed."""

import shutil
import subprocess
from pathlib import Path

from tests.absent import absent


def needs(program: str) -> str:
    """Return the path of a program; without it a test fails in CI and is skipped elsewhere."""
    path = shutil.which(program)
    if path is None:
        absent(f"{program} is not installed (Debian: prometheus, prometheus-alertmanager)")
    return path


def run(program: str, *arguments: str | Path) -> str:
    """Run one of them and return its output; it must succeed."""
    command = [needs(program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
