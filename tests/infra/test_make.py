"""`make setup` makes `.venv` anew where it belongs to another folder; `make down` needs no environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.absent import AS_ROOT

ROOT = Path(__file__).resolve().parents[2]
ANEW = "is made anew"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an environment whose packages are installed, as the stamp says."""
    folder = tmp_path / "my project"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").write_text(
        f'if x; then\n    VIRTUAL_ENV="{folder}/.venv"\nfi\nexport VIRTUAL_ENV\n'
    )
    (folder / ".venv/bin/python").symlink_to(sys.executable)
    (folder / ".venv/.installed").touch()
    return folder


def make(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_setup_has_nothing_to_do_in_the_folder_of_the_environment(project: Path):
    assert "Nothing to be done" in make(project, "--dry-run", "setup")


@pytest.mark.parametrize("moved", ["copied", "renamed"])
def test_setup_makes_the_environment_of_a_copied_or_renamed_folder_anew(project: Path, tmp_path: Path, moved: str):
    other = tmp_path / "other"
    if moved == "copied":
        shutil.copytree(project, other, symlinks=True)
    else:
        project.rename(other)
    commands = make(other, "--dry-run", "setup")
    assert f".venv belongs to {project}/.venv" in commands
    assert ANEW in commands
    assert "rm -rf .venv" in commands
    # Once made, it belongs here.
    (other / ".venv/bin/activate").write_text(f"VIRTUAL_ENV='{other}/.venv'\n")
    assert "Nothing to be done" in make(other, "--dry-run", "setup")


def test_setup_installs_after_a_change_of_the_lock_and_keeps_the_environment(project: Path):
    newer = (project / ".venv/.installed").stat().st_mtime + 10
    os.utime(project / "requirements.lock", (newer, newer))
    commands = make(project, "--dry-run", "setup")
    assert "uv pip sync" in commands
    assert 'test -z "" ||' in commands


@AS_ROOT
def test_root_installs_nothing_in_the_folder_of_another_user(project: Path):
    (project / ".venv/.installed").unlink()
    os.chown(project, 4321, 4321)
    done = subprocess.run(["make", "setup"], cwd=project, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "error: root does not install into the folder of another user" in done.stdout
    assert not (project / ".venv/.installed").exists()


def test_down_works_in_a_renamed_folder_whose_environment_does_not(project: Path, tmp_path: Path):
    for name in ("src", "infra"):
        shutil.copytree(ROOT / name, project / name)
    (project / ".venv/bin/python").unlink()
    (project / ".venv/bin/python").symlink_to(tmp_path / "gone/bin/python")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # without packages
    python.chmod(0o755)
    assert "  no server runs\n" in make(project, "down", f"PYTHON={python}")
