"""The line of an answer is found among the recent lines of the log, wherever it lies."""

import json
from datetime import UTC, datetime

import pytest

from buckler.errors import AuditError
from buckler.trust import audit
from buckler.trust.audit import LONGEST_LINE, AuditLog
from buckler.trust.audit_search import find_answer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INPUT = f"sha256:{'1' * 64}"


def answer(request_id: str, padding: int = 0) -> dict:
    content = {"request_id": request_id, "label": "benign", "padding": "x" * padding}
    return audit.entry(content, client="ward", input_digest=INPUT, moment=NOW)


def test_each_answer_is_found_by_its_id_and_no_other(path):
    log = AuditLog(path, fsync="interval")
    for number in range(50):
        log.append(answer(f"{number:032x}"))
    for number in (0, 24, 49):
        found = find_answer(path, f"{number:032x}")
        assert (found["sequence"], found["answer"]["request_id"]) == (number + 1, f"{number:032x}")
    assert find_answer(path, f"{50:032x}") is None
    assert find_answer(path, "0") is None  # a part of an id
    log.append(audit.entry({"request_id": "f" * 32}, client="e" * 32, input_digest=INPUT, moment=NOW))
    assert find_answer(path, "e" * 32) is None


def test_answers_are_found_across_the_blocks_that_are_read(path):
    log = AuditLog(path, fsync="interval")
    for number in range(12):
        log.append(answer(f"{number:032x}", padding=LONGEST_LINE // 3))
    assert [find_answer(path, f"{number:032x}")["sequence"] for number in range(12)] == list(range(1, 13))


def test_the_file_before_the_newest_is_searched_and_older_ones_are_not(path):
    log = AuditLog(path, segment_bytes=1)  # every line in a file of its own
    for number in range(3):
        log.append(answer(f"{number:032x}"))
    assert len(audit.segments(path)) == 2
    assert [bool(find_answer(path, f"{number:032x}")) for number in range(3)] == [False, True, True]


def test_an_opinion_about_an_answer_is_not_the_answer(path):
    log, request_id = AuditLog(path), "a" * 32
    about = {"request_id": request_id, "opinion": "agree"}
    log.append(audit.event("feedback", client="ward", input_digest=INPUT, moment=NOW, details=about))
    assert find_answer(path, request_id) is None
    log.append(answer(request_id))
    log.append(audit.event("feedback", client="ward", input_digest=INPUT, moment=NOW, details=about))
    assert find_answer(path, request_id)["sequence"] == 2


def test_damaged_and_torn_lines_are_passed_over(path):
    log, request_id = AuditLog(path), "a" * 32
    log.append(answer(request_id))
    whole = path.read_bytes()
    for damage in (b'{"answer": "%s"}\n', b'{"answer": ["%s"], "schema": 1, "sequence": 2, "previous": ""}\n', b'"%s"'):
        path.write_bytes(whole + damage % request_id.encode())
        assert find_answer(path, request_id) == json.loads(whole)


def test_without_a_file_nothing_is_found(path):
    assert find_answer(path, "a" * 32) is None


def test_an_unreadable_log_is_an_error(path):
    path.mkdir(parents=True)
    with pytest.raises(AuditError, match="cannot read the audit log"):
        find_answer(path, "a" * 32)
