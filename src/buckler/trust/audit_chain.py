"""Verifies the chain of an audit log; `buckler.trust.audit` writes it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from buckler.errors import AuditError
from buckler.state import locks
from buckler.trust.audit import (
    LONGEST_LINE,
    READABLE,
    START,
    ChainHead,
    line_digest,
    lock_path,
    parse_line,
    segments,
)


@dataclass(frozen=True, slots=True)
class ChainReport:
    """The result of ``verify``.

    Attributes:
        first: Sequence number of the first line present.
        head: The last valid line.
        recovered: Number of lines that record the recovery of a torn line before them.
        problem: File, line, expected and actual value; None if the whole chain is valid.
    """

    first: int
    head: ChainHead
    recovered: int
    problem: str | None

    @property
    def lines(self) -> int:
        """Number of valid lines."""
        return self.head.sequence - self.first + 1


def verify(
    path: Path, *, expect_head: str | None = None, expect_lines: int | None = None, after: str | None = None
) -> ChainReport:
    """Read the whole chain and report how far it is valid; a service may keep writing meanwhile.

    Args:
        path: The newest file; the full files beside it are read first.
        expect_head: ``sha256:…`` of an earlier head; the chain must still contain it.
        expect_lines: Earlier number of lines; with ``expect_head``, the number of that line.
        after: ``sha256:…`` of the last line archived elsewhere; the first line must follow it.

    Raises:
        AuditError: The file does not exist or cannot be read.
    """
    try:
        report, found = _read_chain(path, expect_head, after)
    except OSError as error:
        raise AuditError(f"cannot read the audit log {error.filename or path}: {error.strerror}") from error
    if report.problem:
        return report
    return replace(report, problem=_missed_expectation(report, expect_head, found, expect_lines))


def whole_lines(path: Path) -> list[tuple[ChainHead, dict[str, Any]]]:
    """Return each line of a log as its head and its fields, oldest first; none if there is no file.

    A torn last line, as a crash leaves it, is left out: the next `AuditLog.append` moves it aside.

    Raises:
        AuditError: The chain is not valid, or the log cannot be read.
    """
    found, head = [], ChainHead(0, START)
    try:
        lines = list(_lines(path)) if path.exists() or segments(path) else []
    except OSError as error:
        raise AuditError(f"cannot read {error.filename or path}: {error.strerror}") from error
    if lines and not lines[-1][1].endswith(b"\n"):
        lines.pop()
    for location, line in lines:
        content = parse_line(line)
        if content is None:
            raise AuditError(f"{location}: {_invalid_line(line)}")
        if content["sequence"] != head.sequence + 1:
            raise AuditError(f"{location}: {_wrong_number(content['sequence'], head)}")
        if content["previous"] != head.digest:
            raise AuditError(f"{location}: {_wrong_link(content['previous'], head)}")
        head = ChainHead(content["sequence"], line_digest(line))
        found.append((head, content))
    return found


def _read_chain(path: Path, wanted: str | None, after: str | None) -> tuple[ChainReport, int | None]:
    """Return the report on the chain itself, and the number of the line whose digest is ``wanted``."""
    start = before = head = _start(path, after)
    recovered, found = 0, start.sequence if start.digest == wanted else None

    def report(last_valid: ChainHead, problem: str | None) -> tuple[ChainReport, int | None]:
        return ChainReport(start.sequence + 1, last_valid, recovered, problem), found

    for location, line in _lines(path):
        content = parse_line(line)
        if content is None:
            return report(head, f"{location}: {_invalid_line(line)}")
        if content["sequence"] != head.sequence + 1:
            return report(head, f"{location}: {_wrong_number(content['sequence'], head)}")
        if content["previous"] != head.digest:
            # Either of the two lines may have been changed: only the lines before both are certain.
            return report(before, f"{location}: {_wrong_link(content['previous'], head)}")
        before, head = head, ChainHead(content["sequence"], line_digest(line))
        recovered += "recovered" in content
        found = head.sequence if head.digest == wanted else found
    return report(head, None)


def _start(path: Path, after: str | None) -> ChainHead:
    if after is None:
        return ChainHead(0, START)
    _, line = next(_lines(path), ("", b""))
    content = parse_line(line)
    return ChainHead(content["sequence"] - 1 if content else 0, after)


def _invalid_line(line: bytes) -> str:
    if not line.endswith(b"\n"):
        return (
            f"a torn line of {len(line)} bytes without a line end, as a crash leaves it; the service moves it to"
            " another file before it writes its next line"
        )
    numbers = " or ".join(map(str, READABLE))
    return f"expected a JSON object with schema {numbers}, sequence and previous, got {line[:60]!r}"


def _wrong_number(got: int, head: ChainHead) -> str:
    expected = head.sequence + 1
    guess = "lines before it were removed or moved" if got > expected else "a line was inserted, repeated or moved"
    archived = "; if they were archived, pass their head as --after" if head.sequence == 0 else ""
    return f"expected sequence {expected}, got {got}: {guess}{archived}"


def _wrong_link(got: str, head: ChainHead) -> str:
    if head.digest == START:
        return f"expected previous {START} in the first line, got {got}: the line was changed"
    return (
        f"expected previous {head.digest}, the SHA-256 of line {head.sequence}, got {got}:"
        f" line {head.sequence} was changed, or line {head.sequence + 1}"
    )


def _missed_expectation(report: ChainReport, wanted: str | None, found: int | None, lines: int | None) -> str | None:
    last = report.head.sequence
    if lines is not None and last < lines:
        return f"expected at least {lines} lines, the log ends after line {last}: its end was cut off"
    if wanted is None:
        return None
    if found is None:
        return (
            f"expected a line with the digest {wanted}, none of lines {report.first} to {last} has it: the log was cut"
            " or rewritten"
        )
    if lines is not None and found != lines:
        return f"expected line {lines} to have the digest {wanted}, line {found} has it: the log was rewritten"
    return None


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each line with its location, ``file:number``; lines appended after the start are left out."""
    with ExitStack() as stack:
        for file, size in _snapshot(path, stack):
            number = 0
            while size > 0 and (line := file.readline(min(size, LONGEST_LINE))):
                size -= len(line)
                number += 1
                yield f"{file.name}:{number}", line


def _snapshot(path: Path, stack: ExitStack) -> list[tuple[BinaryIO, int]]:
    # Opened and measured under the lock, if there is one: a line being written is not mistaken for a torn one, and
    # a file renamed meanwhile stays open.
    with ExitStack() as lock:
        with suppress(FileNotFoundError, PermissionError):
            lock.enter_context(locks.shared(lock_path(path)))
        full = segments(path)
        names = [*full, path] if path.exists() or not full else full
        files = [stack.enter_context(name.open("rb")) for name in names]
        return [(file, os.fstat(file.fileno()).st_size) for file in files]
