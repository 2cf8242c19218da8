"""Fuzz targets: files of lines that are chained by digests."""

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from buckler.errors import AuditError, JournalError
from buckler.trust import audit_chain
from buckler.trust.audit import SCHEMA, START, AuditLog, line_digest, parse_line
from buckler.trust.digests import canonical
from buckler.trust.document import PAYLOAD_TYPE
from buckler.trust.journal import JOURNAL_ENV, Journal
from buckler.trust.recovery import Recovery
from tests.fuzz.contract import require
from tests.fuzz.documents import KEY, MODEL, PUBLIC, REGISTRY, seal
from tests.fuzz.mutation import of_parts

MOMENT = datetime(2026, 6, 1, tzinfo=UTC)


def audit(data: bytes) -> bool:
    """Any bytes as the file of an audit log."""
    with tempfile.TemporaryDirectory(dir=_memory()) as directory:
        path = Path(directory) / "audit.jsonl"
        path.write_bytes(data)
        before = audit_chain.verify(path)
        log = AuditLog(path, fsync="interval")
        try:
            head = log.append({"event": "test"})
        except AuditError:
            require(before.problem or data.count(b"\n") != before.lines, "a valid log takes no line")
            return False
        if before.problem is None:
            after = audit_chain.verify(path)
            require(after.problem is None and after.head == head, f"a line damaged a valid log: {after.problem}")
    return before.problem is None and before.lines > 0


def journal(data: bytes) -> bool:
    """Lines of a journal: any bytes, any text in a valid chain, or any signed statement in a valid chain."""
    with tempfile.TemporaryDirectory(dir=_memory()) as directory, patch.dict(os.environ, {JOURNAL_ENV: directory}):
        found = Journal(MODEL, REGISTRY, PUBLIC)
        found.path.parent.mkdir(parents=True)
        found.path.write_bytes(journal_file(data))
        try:
            before = found.read()
        except JournalError:
            before = None
        records = found.recover([], KEY, person="Jo", reason="test", moment=MOMENT)
        again = Journal(MODEL, REGISTRY, PUBLIC).read()
        require(again == records, "a recovered journal has other records")
        if before is not None:
            require(all(entry in records.entries for entry in before.entries), "a recovery lost records")
        require(isinstance(records.entries[-1].record, Recovery), "the last record is no recovery")
    return before is not None


def journal_file(data: bytes) -> bytes:
    """Return the file of a journal from the lines of an input."""
    content, previous = b"", START
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        name, _, payload = line.partition(b" ")
        if name in (b"record", b"adopted", b"text"):
            text = payload.decode("utf-8", "surrogateescape")
            if name != b"text":
                text = json.dumps(seal(payload.strip().replace(b"PREVIOUS", previous.encode()), PAYLOAD_TYPE))
            key = "adopted" if name == b"adopted" else "record"
            fields = {key: text, "schema": SCHEMA, "sequence": number, "previous": previous}
            line = json.dumps(fields).encode() + b"\n"
        content += line
        previous = line_digest(line)
    return content


def audit_file(lines: list[dict[str, object]]) -> bytes:
    """Return the file of a valid audit log."""
    content, previous = b"", START
    for number, fields in enumerate(lines, 1):
        line = canonical({**fields, "schema": SCHEMA, "sequence": number, "previous": previous}) + b"\n"
        assert parse_line(line)
        content += line
        previous = line_digest(line)
    return content


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk would be worn


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


MUTATORS = {"audit": of_parts(_lines), "journal": of_parts(_lines)}
