"""A project's folder and the code that runs belong together; copying a folder takes `.venv` along, not its paths."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from buckler.errors import FolderError
from buckler.state import startup

ROOT = startup.RUNS
PROGRAMS = (
    ["-m", "buckler.cli", "champion"],
    ["-m", "pipelines.weights"],
    ["-m", "infra.local", "up"],
    ["-m", "services.classifier"],
    ["-m", "services.console"],
)


@pytest.fixture(scope="module")
def copy(module_tmp_path: Path) -> Path:
    """A copied project, without its data and environment."""
    copied = module_tmp_path / "copy"
    copied.mkdir()
    for name in ("src", "pipelines", "services", "infra"):
        shutil.copytree(ROOT / name, copied / name)
    for name in ("pyproject.toml", "params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, copied / name)
    return copied


def run(folder: Path, arguments: list[str], code: Path) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": f"{code}/src"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("arguments", PROGRAMS, ids=" ".join)
def test_a_copy_that_would_run_the_code_of_the_other_folder_stops_and_says_make_setup(copy: Path, arguments):
    done = run(copy, arguments, ROOT)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: expected the code of {copy.resolve()}, got that of {ROOT}")
    assert line.endswith("run `make setup`")
    assert not (copy / ".buckler").exists()


def test_a_copy_with_its_own_environment_runs(copy: Path):
    done = run(copy, ["-c", "from buckler.state import startup; startup.begin(); print('runs')"], copy)
    assert done.stdout == "runs\n"


def test_a_folder_without_code_is_no_copy(tmp_path: Path):
    startup.check_code(tmp_path)
    startup.check_code(ROOT)


def test_code_that_is_installed_without_its_project_belongs_to_no_folder(copy: Path, monkeypatch):
    with pytest.raises(FolderError, match="make setup"):
        startup.check_code(copy)
    monkeypatch.setattr(startup, "RUNS", copy.parent / "lib/python3.11")
    startup.check_code(copy)
