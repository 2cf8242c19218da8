"""Prometheus' own programs, where they are installed."""

import shutil
import subprocess
from pathlib import Path

from tests.absent import absent


def needs(program: str) -> str:
    """Return where a program is; without it a test fails in CI and is skipped elsewhere."""
    path = shutil.which(program)
    if path is None:
        absent(f"{program} is not installed (Debian: prometheus, prometheus-alertmanager)")
    return path


def run(program: str, *arguments: str | Path) -> str:
    """Return what one of them prints; it must succeed."""
    command = [needs(program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
