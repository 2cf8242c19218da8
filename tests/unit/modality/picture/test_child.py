"""Foreign decoders run in a child process that a file can crash, but not leave."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from buckler.error_codes import ErrorCode
from buckler.errors import BucklerError, UnusableImageError
from buckler.modality.picture import child

ROOT = Path(__file__).parents[4]
DECODERS = "tests.unit.modality.picture.child_decoders"


def run(function: str, content: bytes = b"x", *arguments, most_pixels: int = 1_000_000) -> child.Output:
    return child.run(f"{DECODERS}:{function}", content, *arguments, most_pixels=most_pixels)


def refusal(function: str, content: bytes = b"x", *arguments) -> UnusableImageError:
    with pytest.raises(UnusableImageError) as caught:
        run(function, content, *arguments)
    return caught.value


def process_of_a_child() -> int:
    return int(run("rows", b"x", 1).facts["process"])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
def test_pixels_and_facts_come_back(dtype: str):
    pixels = np.arange(12, dtype=dtype).reshape(3, 4)
    decoded = run("rows", pixels.tobytes(), 3, dtype)
    np.testing.assert_array_equal(decoded.pixels, pixels[:, ::-1], strict=True)
    assert decoded.facts["bytes"] == pixels.nbytes


def test_one_child_answers_many_calls_and_then_another_takes_its_place(monkeypatch):
    assert process_of_a_child() == process_of_a_child() != os.getpid()
    first = process_of_a_child()
    monkeypatch.setattr(child, "CALLS", 1)
    assert process_of_a_child() != first


def test_a_decoders_refusal_keeps_its_code_and_message():
    before = process_of_a_child()
    error = refusal("refuses", b"x", "image_too_large")
    assert (error.code, str(error)) == (ErrorCode.IMAGE_TOO_LARGE, "expected a small picture")
    assert process_of_a_child() == before


def test_a_decoders_failure_does_not_quote_the_file():
    error = refusal("fails", b"Jane Roe")
    assert error.code is ErrorCode.IMAGE_UNREADABLE
    assert str(error) == "expected a complete picture, decoding failed; save it again"


@pytest.mark.parametrize("fault", ["crashes", "aborts", "exits"])
def test_a_crash_costs_one_picture(fault: str):
    error = refusal(fault)
    assert error.code is ErrorCode.IMAGE_UNREADABLE
    assert "within 10 s and 296 MB" in str(error)
    assert run("rows", b"x", 1).pixels.tolist() == [[120]]


@pytest.mark.parametrize("size", [400_000_000, 100_000_000_000])
def test_memory_beyond_the_limit_is_refused(size: int):
    assert "within 10 s and 296 MB" in str(refusal("takes_memory", b"x", size))


def test_a_larger_picture_may_take_more_memory():
    run("takes_memory", b"x", 400_000_000, most_pixels=10_000_000)
    refusal("takes_memory", b"x", 400_000_000)


def test_a_decoder_that_computes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(child, "CPU_SECONDS", 1)
    assert "within 1 s and 296 MB" in str(refusal("computes_for_ever"))
    assert process_of_a_child()


def test_a_decoder_that_waits_too_long_is_ended(monkeypatch):
    process_of_a_child()
    monkeypatch.setattr(child, "SECONDS", 0.5)
    assert refusal("waits_for_ever").code is ErrorCode.IMAGE_UNREADABLE
    monkeypatch.undo()
    process_of_a_child()


def test_a_child_that_does_not_read_is_ended_too(monkeypatch):
    process = process_of_a_child()
    os.kill(process, signal.SIGSTOP)
    monkeypatch.setattr(child, "SECONDS", 0.5)
    assert refusal("rows", bytes(5_000_000), 1).code is ErrorCode.IMAGE_UNREADABLE


def test_a_child_that_died_in_its_sleep_is_replaced():
    before = process_of_a_child()
    os.kill(before, signal.SIGKILL)
    while Path(f"/proc/{before}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)
    assert process_of_a_child() != before


def test_what_a_decoder_prints_goes_nowhere(capfd):
    assert run("prints", b"Jane Roe").pixels.tolist() == [1]
    assert capfd.readouterr() == ("", "")


def answer(head: object, pixels: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(head).encode()
    return child.ANSWER.pack(len(text), len(pixels) if length is None else length) + text + pixels


HEAD = {"dtype": "uint8", "shape": [1], "error": None, "message": "", "facts": {}}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"nonsense",
        child.ANSWER.pack(1 << 31, 0),
        answer(HEAD, length=1 << 60),
        answer({**HEAD, "shape": [1 << 60]}, b"1"),
        answer({**HEAD, "shape": [-1, -1]}, b"1"),
        answer({**HEAD, "shape": "1"}, b"1"),
        answer({**HEAD, "dtype": "object"}, b"1"),
        answer({**HEAD, "facts": 1}, b"1"),
        answer({**HEAD, "error": "forbidden"}, b"1"),
        answer({**HEAD, "error": "unauthorized"}, b"1"),
        answer([], b"1"),
        answer({**HEAD, "shape": [2]}, b"1"),
    ],
)
def test_a_child_that_lies_is_not_believed(sent: bytes):
    error = refusal("lies", sent)
    assert error.code is ErrorCode.IMAGE_UNREADABLE
    assert process_of_a_child()


def test_a_child_knows_no_secret_and_no_file(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(child, "CALLS", 0)  # a new child, started with the variable set
    monkeypatch.setenv("BUCKLER_SECRET", "secret")
    with (tmp_path / "open").open("w") as opened:
        os.set_inheritable(opened.fileno(), True)
        facts = run("surroundings").facts
    assert set(facts["environment"]) <= {"LANG", "LC_CTYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert not any(str(tmp_path) in name for name in facts["files"])


def test_a_child_writes_no_large_file(tmp_path: Path):
    refusal("writes", bytes(3_000_000), str(tmp_path / "file"))
    assert (tmp_path / "file").stat().st_size <= 1_000_000


def test_a_child_may_start_no_thread_or_process():
    # Root is exempt; the limit itself shows what others may do.
    assert run("limit", b"x", "RLIMIT_NPROC").facts["limit"] == [0, 0]


def test_threads_share_two_children():
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: process_of_a_child(), range(40)))
    assert 1 <= len(set(found)) <= child.PROCESSES


def test_a_child_outlives_the_thread_that_started_it(monkeypatch):
    monkeypatch.setattr(child, "_pools", [child._Pool()])
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(process_of_a_child).result()
    time.sleep(0.1)
    assert process_of_a_child() == first
    child._pools[-1].end()


def test_a_forked_process_has_children_of_its_own():
    before = process_of_a_child()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, str(process_of_a_child()).encode())
        child._pools[-1].end()
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(reader, 20)) != before == process_of_a_child()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("busy", [False, True])
def test_a_child_ends_with_a_parent_that_is_killed(busy: bool):
    then = "run('computes_for_ever')" if busy else "time.sleep(1000)"
    code = (
        "import time; from tests.unit.modality.picture.test_child import child, process_of_a_child, run;"
        f"child.CPU_SECONDS = 1; print(process_of_a_child(), flush=True); {then}"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.kill()
    deadline = time.monotonic() + 60
    while running(process):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_that_cannot_start_is_a_fault_of_the_server(monkeypatch):
    monkeypatch.setattr(child, "_pools", [child._Pool()])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(BucklerError, match="cannot start the process that decodes pictures") as caught:
        run("rows", b"x", 1)
    assert not isinstance(caught.value, UnusableImageError)


def test_nothing_starts_before_the_first_foreign_picture():
    code = "import threading; from buckler.modality.picture import images; print(threading.active_count())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
