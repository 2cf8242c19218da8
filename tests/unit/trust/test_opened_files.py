"""What is read from an opened directory is what was hashed, whatever happens to the files in between."""

import gc
import os
import shutil
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from buckler.errors import VerdictError
from buckler.trust import opened_files
from buckler.trust.digests import file_digest, file_digests
from buckler.trust.opened_files import OpenedFiles, opened
from tests.openings import counted

CONTENT = b"the verified bytes"
OTHER = b"an attacker's bytes"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "release"
    (directory / "model").mkdir(parents=True)
    (directory / "model/weights.bin").write_bytes(CONTENT)
    (directory / "verdict.json").write_bytes(b"{}")
    return directory


def refusal(directory: Path) -> str:
    with opened(directory) as files, pytest.raises(VerdictError) as caught:
        _ = files.digests
    assert caught.value.reason == "digest"
    return str(caught.value)


def test_digests_and_contents_are_those_of_the_files(directory):
    with opened(directory) as files:
        assert files.digests == {name: file_digest(directory / name) for name in ("model/weights.bin", "verdict.json")}
        assert files.read("model/weights.bin") == CONTENT
        assert (files / "model" / "weights.bin").read_bytes() == CONTENT


def test_each_file_is_opened_once_however_often_it_is_read(directory):
    with counted(directory) as openings, opened(directory) as files:
        for _ in range(3):
            assert files.digests
            files.read("model/weights.bin")
    assert openings == {"model/weights.bin": 1, "verdict.json": 1}


def overwrite(path: Path) -> None:
    path.write_bytes(OTHER)


def truncate(path: Path) -> None:
    os.truncate(path, 3)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("change", [overwrite, truncate, lengthen])
def test_a_file_that_was_changed_after_it_was_hashed_is_refused(directory, change):
    with opened(directory) as files:
        assert files.digests
        change(directory / "model/weights.bin")
        with pytest.raises(VerdictError, match="weights") as caught:
            files.read("model/weights.bin")
    assert caught.value.reason == "digest"


def test_a_file_that_was_changed_between_two_reads_is_refused_although_nobody_asked_for_digests(directory):
    with opened(directory) as files:
        files.read("model/weights.bin")
        overwrite(directory / "model/weights.bin")
        with pytest.raises(VerdictError, match="was changed after it was verified"):
            files.read("model/weights.bin")


def rename_over(path: Path, elsewhere: Path) -> None:
    elsewhere.replace(path)


def link_over(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.symlink_to(elsewhere)


def replace_the_folder(path: Path, elsewhere: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    elsewhere.replace(path)


@pytest.mark.parametrize("swap", [rename_over, link_over, replace_the_folder])
def test_a_file_that_is_put_in_the_place_of_a_hashed_one_is_never_read(directory, tmp_path, swap):
    (tmp_path / "other").write_bytes(OTHER)
    with opened(directory) as files:
        assert files.digests
        swap(directory / "model/weights.bin", tmp_path / "other")
        assert files.read("model/weights.bin") == CONTENT


def test_while_files_are_swapped_only_verified_contents_are_read(directory, tmp_path):
    """A thread puts links, FIFOs and other files in the place of the weights as fast as it can."""
    place, done = directory / "model/weights.bin", threading.Event()
    verified = file_digest(place)

    def swap() -> None:
        beside = directory.parent / "beside"
        while not done.is_set():
            for make in (
                lambda: beside.write_bytes(OTHER),
                lambda: beside.symlink_to("/etc/hostname"),
                lambda: os.mkfifo(beside),
                lambda: beside.write_bytes(CONTENT),
            ):
                make()
                beside.replace(place)

    swapping = threading.Thread(target=swap, daemon=True)
    swapping.start()
    right = 0
    try:
        for _ in range(2000):
            try:
                with opened(directory) as files:
                    if files.digests["model/weights.bin"] == verified:
                        assert files.read("model/weights.bin") == CONTENT
                        right += 1
            except (VerdictError, FileNotFoundError):
                continue
    finally:
        done.set()
        swapping.join()
    assert 0 < right < 2000


def test_a_symbolic_link_is_refused_even_to_the_same_bytes(directory, tmp_path):
    (tmp_path / "same").write_bytes(CONTENT)
    link_over(directory / "model/weights.bin", tmp_path / "same")
    assert "the symbolic link model/weights.bin" in refusal(directory)
    with opened(directory) as files, pytest.raises(VerdictError, match="symbolic link"):
        files.read("model/weights.bin")


def test_a_linked_directory_is_refused(directory, tmp_path):
    (directory / "model").rename(tmp_path / "model")
    (directory / "model").symlink_to(tmp_path / "model")
    assert "the symbolic link model" in refusal(directory)


def test_the_directory_itself_may_be_a_link(directory, tmp_path):
    (tmp_path / "current").symlink_to(directory)
    assert file_digests(tmp_path / "current") == file_digests(directory)


def test_fifos_sockets_and_dangling_links_are_named_and_not_waited_for(directory):
    os.mkfifo(directory / "pipe")
    (directory / "model/gone").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(directory / "socket"))
        refused = refusal(directory)
    for name in ("special file pipe", "symbolic link model/gone", "special file socket"):
        assert name in refused


def test_a_name_that_is_not_utf_8_is_refused(directory):
    (Path(os.fsdecode(os.fsencode(directory) + b"/\xff"))).write_bytes(b"")
    assert r"a name that is not UTF-8: b'\xff'" in refusal(directory)


def test_limits_on_number_depth_and_size(directory):
    large = directory / "large"
    with large.open("wb") as file:
        file.truncate(opened_files.MAX_FILE_BYTES + 1)  # sparse
    assert f"large of {opened_files.MAX_FILE_BYTES + 1} bytes" in refusal(directory)
    large.unlink()
    deep = directory.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "file").touch()
    assert "more than 8 nested directories" in refusal(directory)
    shutil.rmtree(directory / "a")
    for number in range(opened_files.MAX_FILES):
        (directory / f"{number}").touch()
    assert refusal(directory).count("more than 100 files") == 1


def test_of_countless_links_some_are_named(directory):
    for number in range(2 * opened_files.MAX_FILES):
        (directory / f"{number}").symlink_to("nowhere")
    assert 0 < refusal(directory).count("symbolic link") <= opened_files.MAX_FILES


def test_a_file_above_the_callers_limit_is_not_read(directory):
    with opened(directory) as files, pytest.raises(VerdictError, match="at most 3 bytes, got 18"):
        files.read("model/weights.bin", limit=3)


def test_a_missing_file_or_directory_is_named(directory):
    with opened(directory) as files, pytest.raises(FileNotFoundError, match=r"no other\.bin in"):
        files.read("other.bin")
    with pytest.raises(VerdictError, match="expected a directory"):
        OpenedFiles.of(directory / "verdict.json")


def open_descriptors(directory: Path) -> int:
    """Return how many descriptors of this process are open in ``directory``; other tests may leave and close some."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of this listing is closed again
            found += descriptor.readlink().is_relative_to(directory.resolve())
    return found


def test_descriptors_are_closed_with_the_last_reference_and_closed_files_cannot_be_read(directory):
    files = OpenedFiles.of(directory)
    assert open_descriptors(directory) == 2
    files.close()
    assert open_descriptors(directory) == 0
    with pytest.raises(ValueError, match="were closed"):
        files.read("verdict.json")
    with pytest.raises(ValueError, match="were closed"):
        _ = files.digests
    files = OpenedFiles.of(directory)
    del files
    gc.collect()
    assert open_descriptors(directory) == 0


def test_a_location_looks_like_a_path(directory):
    with opened(directory) as files:
        location = files / "model" / "weights.bin"
        assert (location.name, str(location)) == ("weights.bin", str(directory / "model/weights.bin"))
        assert location.parent == files / "model"
        assert location.exists()
        assert location.parent.exists()
        assert not location.with_suffix(".xml").exists()
