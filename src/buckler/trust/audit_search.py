"""Finds the line of an answer among the recent lines of an audit log; `buckler.trust.audit` writes the log."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from buckler.errors import AuditError
from buckler.trust.audit import LONGEST_LINE, parse_line, segments


def find_answer(path: Path, request_id: str) -> dict[str, Any] | None:
    """Return the fields of the line of an answer; None if no line in the two newest files is about it.

    Takes no lock: lines are only ever appended, and a torn one is not found.

    Args:
        path: The newest file.
        request_id: Id of the answer.

    Raises:
        AuditError: The log cannot be read.
    """
    wanted = f'"{request_id}"'.encode()
    try:
        return next((found for file in _newest(path) for found in _about(file, wanted, request_id)), None)
    except OSError as error:
        raise AuditError(f"cannot read the audit log {error.filename or path}: {error.strerror}") from error


def _newest(path: Path) -> Iterator[Path]:
    # The newest file first: if it is closed and renamed meanwhile, it is the last of the full ones.
    if path.exists():
        yield path
    yield from segments(path)[-1:]


def _about(path: Path, wanted: bytes, request_id: str) -> Iterator[dict[str, Any]]:
    try:
        file = path.open("rb")
    except FileNotFoundError:  # renamed since it was listed
        return
    with file:
        for block in _blocks_backwards(file):
            if wanted in block:
                for line in block.splitlines(keepends=True):
                    if wanted in line and _answer_id(content := parse_line(line)) == request_id:
                        yield content or {}


def _answer_id(content: dict[str, Any] | None) -> object:
    answer = content.get("answer") if content else None
    return answer.get("request_id") if isinstance(answer, dict) else None


def _blocks_backwards(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content from its end in blocks of whole lines."""
    end, rest = os.fstat(file.fileno()).st_size, b""
    while end > 0:
        start = max(0, end - LONGEST_LINE)
        content = os.pread(file.fileno(), end - start, start) + rest
        cut = content.find(b"\n") + 1 if start else 0
        yield content[cut:]
        end, rest = start, content[:cut]
