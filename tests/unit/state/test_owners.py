"""One line about a file that cannot be used: which, whose, and what to do."""

import errno
import os
from pathlib import Path

import pytest

from buckler.state import owners

OTHER = 4321  # a user id without a name


def refused(number: int, path: Path) -> str:
    return owners.explained(OSError(number, os.strerror(number), str(path)))


def test_a_full_or_read_only_disk_is_named_with_the_path(tmp_path: Path):
    file = tmp_path / "reports/gate.json"
    assert refused(errno.ENOSPC, file) == (
        f"cannot write {file}: No space left on device; free some space on its disk, then repeat the command"
    )
    assert refused(errno.EROFS, file).startswith(f"cannot write {file}: Read-only file system; mount its disk writable")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("given", [".buckler", ".buckler/run", ".buckler/run/lock"])
def test_a_file_of_another_user_is_named_with_the_command_for_its_whole_folder(tmp_path: Path, given: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".buckler/run").mkdir(parents=True)
    file = tmp_path / ".buckler/run/lock"
    file.touch()
    os.chown(tmp_path / given, OTHER, OTHER)
    place = file if given.endswith("lock") else tmp_path / given / "new"
    said = refused(errno.EACCES, place)
    assert said.startswith(
        f"cannot use {place}: Permission denied; {tmp_path / given} belongs to user {OTHER}, as after"
    )
    assert said.endswith(f"; `sudo chown -R root {tmp_path}/.buckler`")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_in_the_project_of_another_user_nothing_is_to_be_given_away(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.chown(tmp_path, OTHER, OTHER)
    assert refused(errno.EACCES, tmp_path / "models").endswith(
        f"{tmp_path} belongs to user {OTHER}; run the command as user {OTHER}, or in a folder of your own"
    )


def test_an_own_file_needs_another_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir(mode=0o500)
    assert refused(errno.EACCES, tmp_path / "models/a").endswith(
        f"{tmp_path}/models belongs to you; `chmod -R u+rwX {tmp_path}/models`"
    )


def test_an_error_that_names_no_file_still_becomes_a_line():
    assert owners.explained(OSError(errno.EIO, "Input/output error")) == "cannot use a file: Input/output error"
