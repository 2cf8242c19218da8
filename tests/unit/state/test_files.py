"""Replacing files: errors, a full disk and crashes leave the old or the new file."""

import os
from pathlib import Path

import pytest

from buckler.state import files


def test_a_new_file_replaces_the_old_one_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "state.json"
    path.write_bytes(b"old and longer")
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    files.write(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_flushed_before_the_new_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "state.json", []
    real = os.fsync

    def watch(descriptor):
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    files.write(path, b"new")
    (content, before), (directory, after) = synced
    assert content.startswith(str(tmp_path / ".state.json."))
    assert (before, directory, after) == (False, str(tmp_path), True)


def test_a_shared_file_follows_the_umask(tmp_path):
    path = tmp_path / "report.json"
    before = os.umask(0o027)
    try:
        files.write(path, b"new", mode=files.SHARED)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def stop(aside, name=""):
    (aside / name).write_bytes(b"half")
    raise RuntimeError("stopped")


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "array.npy"
    path.write_bytes(b"old")
    with files.replacing(path) as aside:
        assert aside.suffix == ".npy"
        aside.write_bytes(b"new")
    with pytest.raises(RuntimeError, match="stopped"), files.replacing(path) as aside:
        stop(aside)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    place = tmp_path / "release"
    with files.replacing_directory(place) as aside:
        (aside / "old").write_text("1")
    with pytest.raises(RuntimeError, match="stopped"), files.replacing_directory(place) as aside:
        stop(aside, "new")
    assert [path.name for path in place.iterdir()] == ["old"]
    with files.replacing_directory(place) as aside:
        (aside / "new").write_text("2")
    assert [path.name for path in place.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [place]
