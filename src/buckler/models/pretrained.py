"""Downloads pretrained weights once, into Keras's folder; no server can make a stage wait without end.

An interrupted download is continued where it stopped, by this run or the next one.
"""

import hashlib
import http.client
import os
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buckler.errors import ModelError
from buckler.state import locks, proxies

ANSWER_SECONDS = 20.0  # to connect, and between two pieces
SLOW_SECONDS, SLOW_BYTES = 60.0, 256 * 1024  # less than this in that time is given up: 4 kB a second
TOTAL_SECONDS = 3600.0
PROGRESS_SECONDS = 10.0
ATTEMPTS = 3  # each continues where the one before stopped
CHUNK_BYTES = 64 * 1024
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Download:
    """Pretrained weights of a base, as a Keras file."""

    url: str
    md5: str


def download(weights: Download) -> Path:
    """Return the path of ``weights`` in Keras's folder; download the file and check its MD5 if it is not there.

    Raises:
        ModelError: The server does not answer, answers too slowly, or sends another file; or the disk is full.
    """
    path = folder() / Path(weights.url).name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(path):
            if not path.is_file() or _md5(path) != weights.md5:
                _download(weights, path)
    except OSError as error:
        raise ModelError(
            f"the pretrained weights cannot be stored in {path.parent}: {error.strerror or error}; make room or correct"
            " its permissions, or set KERAS_HOME to another folder"
        ) from error
    return path


def folder() -> Path:
    """Return the folder of downloaded weights: ``models`` in ``KERAS_HOME``, else in ``~/.keras``."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    try:
        with locks.exclusive_at_once(path.with_name(f".{path.name}.lock")):
            yield
    except locks.HeldError as error:
        raise ModelError(f"another process downloads {path}; wait until it ends, then run this again") from error


def _download(weights: Download, path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    _tell(f"downloading {weights.url} to {path}")
    end = time.monotonic() + TOTAL_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        transfer = _Transfer(weights.url, part)
        try:
            transfer.run(end)
            break
        except _TransferError as error:
            if attempt == ATTEMPTS or not transfer.moved or time.monotonic() >= end:
                raise _failure(weights, transfer, str(error)) from error
            _tell(f"{error}; continuing the download at {_megabytes(transfer.size)}")
    if (found := _md5(part)) != weights.md5:
        part.unlink()
        raise _failure(weights, transfer, f"expected a file with md5 {weights.md5}, got md5 {found}")
    part.replace(path)


def _failure(weights: Download, transfer: "_Transfer", reason: str) -> ModelError:
    again = "run this again, which continues the download" if transfer.size else "allow access to it"
    return ModelError(
        f"the pretrained weights cannot be downloaded from {weights.url}{proxies.through(weights.url)} ({reason});"
        f" {again}, or set train.weights to a local copy of that file"
    )


class _TransferError(Exception):
    """The server does not answer, too slowly, or with something else."""


@dataclass(slots=True)
class _Transfer:
    """One request for what ``part`` lacks of the file at ``url``.

    Attributes:
        size: Bytes in ``part``.
        expected: Bytes of the whole file; None if the server does not say.
        moved: Whether this request brought any.
    """

    url: str
    part: Path
    size: int = 0
    expected: int | None = None
    moved: bool = False
    _error: Exception | None = None
    _given_up: threading.Event = field(default_factory=threading.Event)

    def run(self, end: float) -> None:
        """Send the request and wait for the file, until the monotonic time ``end`` at most.

        The request runs in a thread of its own: a look-up of a name, or a server that sends a byte a second, has no
        limit of its own.

        Raises:
            OSError: The file cannot be written.
            _TransferError: The file is not complete.
        """
        self.size = self.part.stat().st_size if self.part.exists() else 0
        thread = threading.Thread(target=self._receive, daemon=True, name="download")
        thread.start()
        self._wait(thread, end)
        if self._error is not None:
            raise self._error
        if self.expected is not None and self.size != self.expected:
            raise _TransferError(f"the connection ended after {self._progress()}")

    def _wait(self, thread: threading.Thread, end: float) -> None:
        seen, since, shown = self.size, time.monotonic(), time.monotonic()
        while thread.is_alive():
            thread.join(min(1.0, ANSWER_SECONDS))
            now = time.monotonic()
            if self.size - seen >= SLOW_BYTES:
                seen, since = self.size, now
            if now - shown >= PROGRESS_SECONDS:
                shown = now
                _tell(f"downloaded {self._progress()}")
            if thread.is_alive() and (now - since >= SLOW_SECONDS or now >= end):
                self._given_up.set()
                wanted = f"{SLOW_BYTES // 1024} KiB in {SLOW_SECONDS:g} s, got {self.size - seen} bytes"
                if now >= end:
                    wanted = f"the whole file in {TOTAL_SECONDS:g} s"
                raise _TransferError(f"expected {wanted}; {self._progress()} are here")

    def _receive(self) -> None:
        try:
            with self._opened() as answer, self.part.open("ab" if self.size else "wb") as file:
                while (chunk := answer.read1(CHUNK_BYTES)) and not self._given_up.is_set():
                    file.write(chunk)
                    self.size += len(chunk)
                    self.moved = True
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or error
            late = isinstance(reason, TimeoutError)
            self._error = _TransferError(f"no answer within {ANSWER_SECONDS:g} s" if late else f"{reason}")
        except OSError as error:
            self._error = error

    def _opened(self) -> Any:
        request = urllib.request.Request(self.url)  # noqa: S310 - a constant of this package
        if self.size:
            request.add_header("Range", f"bytes={self.size}-")
        try:
            answer = urllib.request.urlopen(request, timeout=ANSWER_SECONDS)  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _HTTPStatusError(error) from error
            self.part.unlink()  # longer than the file
            self.size = 0
            return self._opened()
        if self.size and answer.status != http.client.PARTIAL_CONTENT:
            self.size = 0  # the server starts again
        length = answer.headers.get("Content-Length")
        self.expected = self.size + int(length) if length and length.isdecimal() else None
        return answer

    def _progress(self) -> str:
        return _megabytes(self.size) + (f" of {_megabytes(self.expected)}" if self.expected else "")


class _HTTPStatusError(http.client.HTTPException):
    def __init__(self, error: urllib.error.HTTPError) -> None:
        super().__init__(f"HTTP {error.code} {error.reason}")
        error.close()


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")  # for the person who waits
    sys.stderr.flush()


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        # Keras's own digest of the file; only the exact bytes of the project's table are ever loaded.
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
