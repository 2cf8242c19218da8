import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.errors import AuditError
from buckler.trust import audit, audit_chain
from buckler.trust.audit import AuditLog, ChainHead
from tests.unit.trust.appending import answered, write

ROOT = Path(__file__).parents[3]


def start(path: Path, what: str, amount: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.unit.trust.appending", str(path), what, str(amount)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def printed_heads(output: str) -> list[ChainHead]:
    heads = [line.split() for line in output.splitlines() if line and line[0].isdigit()]
    return [ChainHead(int(sequence), digest) for sequence, digest in heads]


def test_a_line_contains_client_time_input_and_answer_and_the_previous_digest(path):
    write(path, 2)
    first, second = path.read_bytes().splitlines(keepends=True)
    content = json.loads(second)
    assert (content["schema"], content["sequence"], content["client"]) == (audit.SCHEMA, 2, "anonymous")
    assert content["input"] == f"sha256:{1:064x}"
    assert content["answer"]["label"] == "benign"
    assert content["time"].endswith("+00:00")
    assert content["previous"] == f"sha256:{hashlib.sha256(first).hexdigest()}"
    assert json.loads(first)["previous"] == audit.START


def test_the_log_of_an_earlier_version_continues(path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(audit, "SCHEMA", 1)
        write(path, 2)
    write(path, 1)
    assert [json.loads(line)["schema"] for line in path.read_bytes().splitlines()] == [1, 1, audit.SCHEMA]
    report = audit_chain.verify(path)
    assert (report.problem, report.lines) == (None, 3)


def test_only_the_owner_reads_the_log(path):
    write(path, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("count", [1, 2, 30])
def test_an_appended_chain_is_valid_up_to_the_returned_head(path, count):
    heads = write(path, count)
    report = audit_chain.verify(path)
    assert (report.problem, report.head, report.lines) == (None, heads[-1], count)
    assert AuditLog(path).head() == heads[-1]


def test_the_head_is_the_sha256sum_of_the_last_line(path):
    (*_, head) = write(path, 3)
    printed = subprocess.run(f"tail -n 1 {path} | sha256sum", shell=True, capture_output=True, text=True, check=True)
    assert head.digest == f"sha256:{printed.stdout.split()[0]}"


def test_a_line_longer_than_a_read_block_is_found(path):
    log = AuditLog(path)
    for _ in range(3):
        log.append({"answer": "x" * 20_000})
    assert audit_chain.verify(path).lines == 3


# --- tampering

CHAIN = 6


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, ChainHead]:
    path = tmp_path_factory.mktemp("chain") / "audit.jsonl"
    heads = write(path, CHAIN)
    return path, path.read_bytes(), heads[-1]


def changed(content: bytes, data: st.DataObject) -> bytes:
    """Flip a bit, or remove, repeat, forge or move a line, or cut the end."""
    lines = content.splitlines(keepends=True)
    at, to = data.draw(st.integers(0, CHAIN - 1)), data.draw(st.integers(0, CHAIN - 1))
    what = data.draw(st.sampled_from(["flip", "remove", "repeat", "forge", "move", "cut"]))
    if what == "flip":
        flipped = bytearray(content)
        flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        return bytes(flipped)
    if what == "forge":
        forged = {**json.loads(lines[at]), "client": "another"}
        lines.insert(at, json.dumps(forged).encode() + b"\n")
    elif what == "repeat":
        lines.insert(to, lines[at])
    elif what == "cut":
        return content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        line = lines.pop(at)
        if what == "move":
            lines.insert(to, line)
    return b"".join(lines)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_the_file_contradicts_a_stored_head(written, data):
    path, content, head = written
    tampered = changed(content, data)
    path.write_bytes(tampered)
    try:
        report = audit_chain.verify(path, expect_head=head.digest, expect_lines=head.sequence)
        assert (report.problem is None) == (tampered == content)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("at", range(CHAIN - 1))
def test_a_changed_line_is_named_and_the_lines_before_it_are_valid(written, at):
    path, content, _ = written
    lines = content.splitlines(keepends=True)
    lines[at] = lines[at].replace(b"benign", b"malign")
    path.write_bytes(b"".join(lines))
    try:
        report = audit_chain.verify(path)
    finally:
        path.write_bytes(content)
    was, now = (f"sha256:{hashlib.sha256(each).hexdigest()}" for each in (content.splitlines(True)[at], lines[at]))
    assert report.lines == at
    assert f"line {at + 1} was changed" in report.problem
    assert f"{path}:{at + 2}: expected previous {now}" in report.problem
    assert f"got {was}" in report.problem


@pytest.mark.parametrize(
    ("order", "text", "valid"),
    [
        ([0, 1, 3, 4, 5], ":3: expected sequence 3, got 4: lines before it were removed or moved", 2),
        ([0, 1, 2, 2, 3, 4, 5], ":4: expected sequence 4, got 3: a line was inserted, repeated or moved", 3),
        ([0, 2, 1, 3, 4, 5], ":2: expected sequence 2, got 3", 1),
        ([1, 2, 3, 4, 5], ":1: expected sequence 1, got 2", 0),
    ],
    ids=["removed", "inserted", "reordered", "beginning removed"],
)
def test_a_removed_inserted_or_moved_line_is_named(written, order, text, valid):
    path, content, _ = written
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[at] for at in order))
    try:
        report = audit_chain.verify(path)
    finally:
        path.write_bytes(content)
    assert text in report.problem
    assert report.lines == valid


def test_a_cut_end_is_found_only_with_a_stored_head_or_count(path):
    heads = write(path, 5)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    assert audit_chain.verify(path).problem is None
    assert "its end was cut off" in audit_chain.verify(path, expect_lines=5).problem
    assert "cut or rewritten" in audit_chain.verify(path, expect_head=heads[4].digest).problem
    assert audit_chain.verify(path, expect_lines=3, expect_head=heads[2].digest).problem is None


def test_an_old_head_is_still_valid_after_the_log_has_grown(path):
    heads = write(path, 5)
    assert audit_chain.verify(path, expect_lines=2, expect_head=heads[1].digest).problem is None
    assert "rewritten" in audit_chain.verify(path, expect_lines=3, expect_head=heads[1].digest).problem


def test_a_rewritten_chain_contradicts_the_old_head(path):
    (*_, head) = write(path, 4)
    path.unlink()
    write(path, 4)
    assert audit_chain.verify(path).problem is None
    assert audit_chain.verify(path, expect_head=head.digest).problem


@pytest.mark.parametrize("content", [b"\n", b"{}\n", b"[1]\n", b"\xff\n", b"[" * 100_000 + b"\n", b"\0" * 4096 + b"\n"])
def test_an_invalid_line_is_named(path, content):
    write(path, 2)
    with path.open("ab") as file:
        file.write(content)
    report = audit_chain.verify(path)
    assert f"{path}:3: expected a JSON object" in report.problem
    assert report.lines == 2


def test_a_file_without_line_ends_does_not_exhaust_memory(path):
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    assert "torn" in audit_chain.verify(path).problem
    with pytest.raises(AuditError, match="at most 1048576 bytes"):
        AuditLog(path).append(answered(0))


def test_a_missing_log_is_an_error(path):
    with pytest.raises(AuditError, match="No such file"):
        audit_chain.verify(path)


# --- several files


def test_full_files_are_renamed_and_the_chain_continues(path):
    heads = write(path, 20, segment_bytes=2000)
    full = audit.segments(path)
    assert len(full) > 2
    assert all(file.stat().st_size < 3000 for file in full)
    report = audit_chain.verify(path)
    assert (report.problem, report.head, report.lines) == (None, heads[-1], 20)


def test_a_missing_full_file_is_found(path):
    write(path, 20, segment_bytes=2000)
    audit.segments(path)[1].unlink()
    assert "were removed" in audit_chain.verify(path).problem


def test_the_rest_of_the_chain_is_valid_after_the_head_of_an_archived_file(path):
    heads = write(path, 20, segment_bytes=2000)
    archived = audit.segments(path)[0]
    last = int(archived.stem.rpartition(".")[2])
    archived.unlink()
    assert "expected sequence 1" in audit_chain.verify(path).problem
    report = audit_chain.verify(path, after=heads[last - 1].digest)
    assert (report.problem, report.first, report.lines) == (None, last + 1, 20 - last)
    assert audit_chain.verify(path, after=heads[last].digest).problem


def test_a_crash_between_two_files_does_not_break_the_chain(path):
    write(path, 20, segment_bytes=2000)
    path.unlink()  # as if the process had died after the rename
    last = audit_chain.verify(path).head
    assert AuditLog(path).append(answered(0)).sequence == last.sequence + 1
    assert audit_chain.verify(path).problem is None


def test_a_full_file_is_never_overwritten(path):
    heads = write(path, 2)
    path.with_name(f"audit.{heads[-1].sequence:012d}.jsonl").write_text("another log")
    with pytest.raises(AuditError, match="never overwritten"):
        AuditLog(path, segment_bytes=1).append(answered(2))


# --- crashes, full disks, several writers


@pytest.mark.parametrize("fsync", ["always", "interval"])
def test_a_killed_process_loses_no_line_whose_append_returned(path, fsync):
    process = start(path, fsync, 1_000_000)
    first = process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    output = first + process.communicate()[0]
    heads = printed_heads(output[: output.rfind("\n")])
    AuditLog(path).append(answered(0))
    report = audit_chain.verify(path, expect_lines=heads[-1].sequence, expect_head=heads[-1].digest)
    assert report.problem is None
    assert report.head.sequence - heads[-1].sequence <= 2  # the last line may be written but not yet printed


def test_a_torn_line_is_reported_moved_aside_and_recorded_by_the_next_line(path):
    process = start(path, "die_torn", 1000)
    heads = printed_heads(process.communicate()[0])
    assert process.returncode == -signal.SIGKILL
    report = audit_chain.verify(path)
    assert "a torn line of" in report.problem
    assert report.head == heads[-1]

    torn = path.read_bytes().rpartition(b"\n")[2]
    assert torn
    head = AuditLog(path).append(answered(0))
    assert head.sequence == heads[-1].sequence + 1
    report = audit_chain.verify(path)
    assert (report.problem, report.recovered) == (None, 1)
    aside = path.with_name(f"audit.jsonl.torn.{head.sequence:012d}")
    assert aside.read_bytes() == torn
    note = json.loads(path.read_bytes().splitlines()[-1])["recovered"]
    assert note == {"bytes": len(torn), "digest": f"sha256:{hashlib.sha256(torn).hexdigest()}"}


def test_a_last_line_made_unreadable_by_power_loss_is_moved_aside(path):
    write(path, 3)
    with path.open("ab") as file:
        file.write(bytes(300) + b'"}\n')
    AuditLog(path).append(answered(3))
    assert (audit_chain.verify(path).problem, audit_chain.verify(path).lines) == (None, 4)


def test_after_a_torn_first_line_the_chain_starts_at_one(path):
    path.parent.mkdir()
    path.write_bytes(b'{"schema": 1, "seq')
    assert AuditLog(path).append(answered(0)).sequence == 1
    assert audit_chain.verify(path).problem is None


def test_more_damage_than_a_crash_causes_is_not_overwritten(path):
    write(path, 3)
    with path.open("ab") as file:
        file.write(b"x\ny")
    before = path.read_bytes()
    with pytest.raises(AuditError, match=r"move the whole directory .*/audit away"):
        AuditLog(path).append(answered(3))
    assert path.read_bytes() == before


def test_a_full_disk_leaves_no_part_of_a_line_and_the_error_names_the_next_step(path):
    process = start(path, "fill", 1000)
    output = process.communicate()[0]
    assert process.returncode == 0
    assert f"cannot write the audit log {path}: File too large; free or repair the disk" in output
    report = audit_chain.verify(path)
    assert (report.problem, report.head) == (None, printed_heads(output)[-1])


def test_the_chain_continues_once_the_disk_has_room_again(path):
    heads = printed_heads(start(path, "fill", 1000).communicate()[0])
    assert AuditLog(path).append(answered(0)).sequence == heads[-1].sequence + 1
    assert audit_chain.verify(path).recovered == 0


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    for name in ("file/audit.jsonl", "directory"):
        with pytest.raises(AuditError, match=f"cannot write the audit log {tmp_path / name}: "):
            AuditLog(tmp_path / name).append(answered(0))


def test_several_processes_and_threads_write_one_chain(path):
    processes = [start(path, "interval", 40) for _ in range(3)]
    log = AuditLog(path, fsync="interval", segment_bytes=20_000)
    with ThreadPoolExecutor(4) as pool:
        heads = list(pool.map(lambda number: log.append(answered(number)), range(40)))
    heads += [head for process in processes for head in printed_heads(process.communicate()[0])]
    assert sorted(head.sequence for head in heads) == list(range(1, 161))
    assert len(audit.segments(path)) >= 2
    report = audit_chain.verify(path)
    assert (report.problem, report.lines) == (None, 160)


def test_a_log_can_be_verified_while_it_is_written(path):
    stop = threading.Event()
    log = AuditLog(path, fsync="interval", segment_bytes=5000)
    log.append(answered(0))

    def keep_writing() -> None:
        while not stop.is_set():
            log.append(answered(1))

    thread = threading.Thread(target=keep_writing)
    thread.start()
    try:
        assert [audit_chain.verify(path).problem for _ in range(10)] == [None] * 10
    finally:
        stop.set()
        thread.join()


def test_with_interval_lines_are_synced_once_per_interval(path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (synced.append(str(Path(f"/proc/self/fd/{file}").readlink())), real(file))
    )
    monkeypatch.setattr(audit, "INTERVAL_SECONDS", 0.05)
    log = AuditLog(path, fsync="interval")
    log.append(answered(0))
    assert str(path) not in synced
    log.append(answered(1))
    deadline = time.monotonic() + 10
    while str(path) not in synced and time.monotonic() < deadline:
        time.sleep(0.01)
    assert synced.count(str(path)) == 1
