"""What to do about a file that another user owns."""

import os
from pathlib import Path

import pytest

from buckler.state import owners
from tests.absent import AS_ROOT

OTHER = 4321  # a user id without a name


@AS_ROOT
@pytest.mark.parametrize("given", [".buckler", ".buckler/run", ".buckler/run/lock"])
def test_a_file_of_another_user_is_named_with_the_command_for_its_whole_folder(tmp_path: Path, given: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".buckler/run").mkdir(parents=True)
    file = tmp_path / ".buckler/run/lock"
    file.touch()
    os.chown(tmp_path / given, OTHER, OTHER)
    place = file if given.endswith("lock") else tmp_path / given / "new"
    said = owners.advice(place)
    assert said.startswith(f"{tmp_path / given} belongs to user {OTHER}, as after a command with sudo; ")
    assert said.endswith(f"`sudo chown -R root {tmp_path}/.buckler`")


@AS_ROOT
def test_in_the_project_of_another_user_nothing_is_to_be_given_away(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.chown(tmp_path, OTHER, OTHER)
    assert owners.advice(tmp_path / "models") == (
        f"{tmp_path} belongs to user {OTHER}; run the command as user {OTHER}, or in a folder of your own"
    )


def test_an_own_file_needs_another_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir(mode=0o500)
    assert owners.advice(Path("models/a")) == f"{tmp_path}/models belongs to you; `chmod -R u+rwX {tmp_path}/models`"
