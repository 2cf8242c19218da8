import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from buckler.state import documents, exits
from pipelines.stage import ROOT, stage
from tests import datasets
from tests.absent import AS_ROOT, needed

FULL = Path("/dev/full")  # a file on a disk that is always full
needs_full = needed(FULL.exists(), "this system has no /dev/full")


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def explained(action):
    with pytest.raises(OSError) as caught:  # noqa: PT011
        action()
    return exits.explain(caught.value)


@needs_full
@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("x"),
        lambda path: documents.write_json(path, {"a": 1}),
        lambda path: np.zeros(100_000).tofile(path),
        lambda path: np.savez(path, a=np.zeros(9)),
    ],
)
def test_a_full_disk_is_named_with_the_file(tmp_path, write):
    path = tmp_path / "data.npz"
    path.symlink_to(FULL)
    assert explained(lambda: write(path)).startswith(f"no space left on the disk of {path}")


def test_a_file_that_may_not_grow_is_named(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        text = explained(lambda: (tmp_path / "big").write_bytes(bytes(10_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert text.startswith(f"{tmp_path / 'big'} became larger than this user's files may be")


def test_other_refusals_say_what_to_do(tmp_path):
    (tmp_path / "file").write_text("x")
    assert explained(tmp_path.read_bytes) == f"expected a file at {tmp_path}, got a folder; rename or remove it"
    below = tmp_path / "file/x"
    assert explained(below.read_bytes) == f"expected a folder at {below}, got a file; rename or remove it"
    gone = tmp_path / "gone"
    assert explained(gone.read_bytes).startswith(f"there is no {gone}; restore it")
    assert exits.explain(OSError(errno.EIO, "Input/output error", "x")) == "[Errno 5] Input/output error: 'x'"
    assert exits.explain(MemoryError()).startswith("not enough memory; lower batch_size")


@AS_ROOT
def test_a_file_of_another_owner_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("{}")
    path.chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        text = explained(path.read_bytes)
    finally:
        os.seteuid(0)
    assert text.startswith(
        f"permission denied: {path}; {path} belongs to root, as after a command with sudo; `sudo chown -R "
    )


@needs_full
def test_a_stage_on_a_full_disk_ends_with_one_line(tmp_path, capsys):
    path = tmp_path / "report.json"
    path.symlink_to(FULL)
    with pytest.raises(SystemExit) as caught:
        stage(lambda: documents.write_json(path, {}))
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"error: no space left on the disk of {path}; free some and start again\n"


def test_a_command_whose_reader_has_gone_ends_in_silence(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    program = [sys.executable, "-m", "buckler.cli", "profile", "demo"]
    with subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == exits.READER_GONE == 141


@pytest.mark.slow
@pytest.mark.parametrize("program", ["pipelines.preflight", "pipelines.check", "buckler.cli"])
def test_an_interrupt_while_libraries_load_is_one_line(tmp_path, program):
    folder = datasets.make_folder(tmp_path / "pictures", per_class=1)
    arguments = {"pipelines.check": [folder], "buckler.cli": ["check", folder]}.get(program, [])
    with subprocess.Popen(
        [sys.executable, "-m", program, *arguments],
        stderr=subprocess.PIPE,
        # The process that runs the tests may ignore SIGINT, and its children then do, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as command:
        while command.poll() is None and "_multiarray_umath" not in Path(f"/proc/{command.pid}/maps").read_text():
            time.sleep(0.01)
        command.send_signal(signal.SIGINT)
        assert command.stderr.read() == b"interrupted\n"
    assert command.returncode == exits.INTERRUPTED == 130
