"""Append-only audit log: one JSON line per answer, each with the SHA-256 of the previous line.

A changed, removed, inserted or moved line breaks the chain, and `buckler.trust.audit_chain` reports where. The file
alone cannot reveal a truncated end, a changed last line or a complete rewrite. To detect those, store a ``ChainHead``
where the log's writer has no access, and pass it to ``audit_chain.verify``.

Any number of processes and threads append to one chain: a lock file serialises them, and each rereads the last line
before it writes. A line contains the digest of a record and the answer, never a record, file name or DICOM tag.

    audit.jsonl                     the newest lines
    audit.000000094210.jsonl        a full file, named by the sequence number of its last line; the chain continues
    audit.jsonl.lock                an empty lock file
    audit.jsonl.torn.000000094317   the incomplete line with this number that a crash left
"""

import errno
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any, Literal

from buckler.errors import AuditError
from buckler.state import locks, owners, paths
from buckler.state.files import sync_directory
from buckler.trust.digests import canonical

SCHEMA = 2  # an answer may state the frame of its file
READABLE = (1, SCHEMA)
START = "sha256:" + 64 * "0"  # the previous digest in the first line

LOG_ENV = "BUCKLER_AUDIT_LOG"
OFF = "off"

Fsync = Literal["always", "interval"]
INTERVAL_SECONDS = 1.0
SEGMENT_BYTES = 64 * 1024 * 1024
LONGEST_LINE = 1024 * 1024  # bytes; a damaged file without line ends must not exhaust memory
BLOCK = 4096

logger = logging.getLogger("buckler.audit")


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of a chain: pins every line up to it.

    Attributes:
        sequence: Number of the last line; 0 before the first.
        digest: ``sha256:…`` of the last line with its line end, as `tail -n 1 FILE | sha256sum` prints it.
    """

    sequence: int
    digest: str


def log_path() -> Path:
    """Return the path of the log: ``BUCKLER_AUDIT_LOG``, else the project's default.

    Raises:
        AuditError: The log is turned off.
    """
    named = os.environ.get(LOG_ENV)
    if named == OFF:
        raise AuditError(f"{LOG_ENV} is {OFF!r}: no log is written; name the file of an older one")
    return Path(named) if named else paths.AUDIT_LOG


def entry(answer: Mapping[str, Any], *, client: str, input_digest: str, moment: datetime) -> dict[str, Any]:
    """Return the log entry for an answer.

    Args:
        answer: As the client gets it: request id, label, probabilities, decision, reasons, detector, model.
        client: Id of the client's key, never the key itself.
        input_digest: ``sha256:…`` of the record's bytes as received.
        moment: Timezone-aware time of the answer.
    """
    return {"time": moment.isoformat(), "client": client, "input": input_digest, "answer": dict(answer)}


def event(name: str, *, client: str, input_digest: str, moment: datetime, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the log entry for an event other than an answer.

    Args:
        name: Name of the event.
        client: Id of the key whose record caused the event.
        input_digest: ``sha256:…`` of the record's bytes as received.
        moment: Timezone-aware time of the event.
        details: Further fields of the entry.
    """
    return {"time": moment.isoformat(), "client": client, "input": input_digest, "event": name, **details}


# --- write


class AuditLog:
    """A chain that this and other processes append to.

    Args:
        path: The newest file; the first write creates it and its directory, readable by the owner only.
        fsync: ``always``: the line is on disk when ``append`` returns. ``interval``: the kernel has the line then, and
            it is on disk a second later; a killed process loses nothing, a power failure may lose that second.
        segment_bytes: Size at which a file is closed and renamed; the chain continues in a new one.
    """

    def __init__(self, path: Path, *, fsync: Fsync = "always", segment_bytes: int = SEGMENT_BYTES) -> None:
        self.path = path
        self._always = fsync == "always"
        self._segment_bytes = segment_bytes
        self._timer: threading.Timer | None = None
        self._timers = threading.Lock()
        self._overdue = False

    def append(self, values: Mapping[str, Any], *, after: ChainHead | None = None) -> ChainHead:
        """Write one line and return it as the new head; an error leaves the log unchanged.

        Args:
            values: Fields of the line.
            after: The line that must be the last one; default: whichever is.

        Raises:
            AuditError: The line was not written: the disk is full, the directory is not writable, the last lines
                are not valid lines of this log, or another process has written since ``after``.
        """
        with self._readable_errors(), self._locked():
            head, note = self._prepare()
            if after is not None and head != after:
                raise AuditError(
                    f"expected line {after.sequence} to be the last one of {self.path}, got line {head.sequence}:"
                    " another process wrote meanwhile; try again"
                )
            return self._write({**values, **note}, head)

    def head(self) -> ChainHead:
        """Return the last whole line; also checks, before the first answer, that the log is writable.

        Raises:
            AuditError: As ``append``.
        """
        with self._readable_errors(), self._locked(), _opened(self.path) as file:
            return self._find_head(file)[0]

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            denied = error.errno in (errno.EACCES, errno.EPERM)
            todo = owners.advice(self.path) if denied else "free or repair the disk"
            raise AuditError(
                f"cannot write the audit log {self.path}: {error.strerror}; {todo}, or set {LOG_ENV} to another file"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Not the log itself, which is renamed when full. Opened each time, because flock belongs to the open file
        # and would otherwise not exclude other threads of the process.
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locks.exclusive(lock_path(self.path)):
            yield

    def _prepare(self) -> tuple[ChainHead, dict[str, Any]]:
        """Prepare the newest file for a line: move a torn line aside and start a new file if it is full.

        Returns:
            The previous line, and the fields about a torn line that the next line must record.
        """
        with _opened(self.path) as file:
            head, end = self._find_head(file)
            torn = os.pread(file, os.fstat(file).st_size - end, end)
            if torn:
                self._move_aside(torn, head.sequence + 1)
                os.ftruncate(file, end)
            if end >= self._segment_bytes:
                os.fsync(file)  # the file is closed after this, so pending lines must be synced now
                self._close_segment(head)
        return head, {"recovered": {"bytes": len(torn), "digest": line_digest(torn)}} if torn else {}

    def _find_head(self, file: int) -> tuple[ChainHead, int]:
        """Return the last whole line and its end offset; at most one torn line may follow."""
        end = os.fstat(file).st_size
        for _ in range(2):
            line = _last_line(file, end)
            if not line:
                return self._head_of_segments(), end
            if content := parse_line(line):
                return ChainHead(content["sequence"], line_digest(line)), end
            end -= len(line)
        raise AuditError(
            f"the last two lines of {self.path} are not valid; see `buckler audit verify`, then move the whole"
            f" directory {self.path.parent} away to start a new chain"
        )

    def _head_of_segments(self) -> ChainHead:
        full = segments(self.path)
        if not full:
            return ChainHead(0, START)
        with full[-1].open("rb") as file:
            line = _last_line(file.fileno(), os.fstat(file.fileno()).st_size)
        if content := parse_line(line):
            return ChainHead(content["sequence"], line_digest(line))
        raise AuditError(f"the last line of {full[-1]} is not valid; see `buckler audit verify`")

    def _move_aside(self, torn: bytes, sequence: int) -> None:
        path = self.path.with_name(f"{self.path.name}.torn.{sequence:012d}")
        with _opened(path) as file:
            _write_all(file, torn)
            os.fsync(file)
        logger.warning("audit log %s: a torn line of %d bytes moved to %s", self.path, len(torn), path.name)

    def _close_segment(self, head: ChainHead) -> None:
        full = self.path.with_name(f"{self.path.stem}.{head.sequence:012d}{self.path.suffix}")
        if full.exists():
            raise AuditError(f"{full} already exists and is never overwritten; see `buckler audit verify`")
        self.path.rename(full)

    def _write(self, values: Mapping[str, Any], before: ChainHead) -> ChainHead:
        sequence = before.sequence + 1
        chained = {**values, "schema": SCHEMA, "sequence": sequence, "previous": before.digest}
        line = canonical(chained) + b"\n"
        with _opened(self.path) as file:
            end = os.fstat(file).st_size
            try:
                _write_all(file, line)
                self._sync(file)
                if end == 0:
                    sync_directory(self.path.parent)
            except OSError:
                with suppress(OSError):  # the rest is a torn line, moved aside before the next write
                    os.ftruncate(file, end)
                raise
        return ChainHead(sequence, line_digest(line))

    def _sync(self, file: int) -> None:
        if self._always or self._overdue:
            os.fsync(file)
            self._overdue = False
            return
        with self._timers:
            if self._timer is None:
                self._timer = threading.Timer(INTERVAL_SECONDS, self._sync_later)
                self._timer.daemon = True  # at exit the kernel already has all lines
                self._timer.start()

    def _sync_later(self) -> None:
        with self._timers:
            self._timer = None
        try:
            with _opened(self.path) as file:
                os.fsync(file)
        except OSError as error:
            self._overdue = True  # the next line is synced at once, and rejected if that fails
            logger.error("audit log %s: lines of the last second may not be on the disk: %s", self.path, error)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _write_all(file: int, content: bytes) -> None:
    while content:  # a nearly full disk writes a part and fails at the next call
        content = content[os.write(file, content) :]


def _last_line(file: int, end: int) -> bytes:
    """Return the last line before byte ``end``; empty for an empty file."""
    content, start, step = b"", end, BLOCK
    while start > 0:
        step = min(step, start)
        start -= step
        content = os.pread(file, step, start) + content
        cut = content.rfind(b"\n", 0, -1)
        if cut >= 0:
            return content[cut + 1 :]
        if len(content) > LONGEST_LINE:
            raise AuditError(
                f"expected lines of at most {LONGEST_LINE} bytes in the audit log; see `buckler audit verify`"
            )
        step *= 2
    return content


def lock_path(path: Path) -> Path:
    """Return the lock file of the log ``path``."""
    return path.with_name(path.name + ".lock")


def line_digest(content: bytes) -> str:
    """Return ``sha256:…`` of a line with its line end."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the fields of a whole line of this log; None if it is not one."""
    if not line.endswith(b"\n"):
        return None
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(content, dict) and content.get("schema") in READABLE
    if not known or type(content.get("sequence")) is not int or not isinstance(content.get("previous"), str):
        return None
    return dict(content)


def segments(path: Path) -> list[Path]:
    """Return the full files of the log whose newest is ``path``, oldest first."""
    return sorted(path.parent.glob(f"{escape(path.stem)}.{12 * '[0-9]'}{escape(path.suffix)}"))
