"""API keys of a service's clients: create, list, revoke; only hashes are stored.

The file is JSON, readable by its owner only, and replaced atomically: a service that reads it during a change gets
the old or the new content, never a mixture::

    {"schema": 1, "keys": [{"id": "3f9a1c20", "name": "ward-3", "role": "predict", "sha256": "…",
                            "created_at": "2026-01-31T08:00:00+00:00", "revoked_at": null}]}
"""

import dataclasses
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from buckler.errors import BucklerError
from buckler.state import exits, files, locks, paths

SCHEMA = 1
API_KEYS_ENV = "BUCKLER_API_KEYS"
# Identifies a key to people and to secret scanners.
PREFIX = "bk_"
SECRET_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
RELOAD_SECONDS = 1.0

log = logging.getLogger("buckler.api_keys")


class Role(StrEnum):
    """What a key permits. Each key has one role, and no role includes another: a monitoring key cannot predict."""

    PREDICT = "predict"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The stored record of a key.

    Attributes:
        id: Short, random and independent of the key and its hash, so that logs may contain it.
        name: The operator's name for its owner; two keys may share a name while one replaces the other.
        role: What the key permits.
        sha256: Hash of the key in hexadecimal.
        created_at, revoked_at: ISO 8601 with zone; ``revoked_at`` is None while the key is valid.
    """

    id: str
    name: str
    role: Role
    sha256: str
    created_at: str
    revoked_at: str | None = None


def file_path() -> Path:
    """Return the path of the key file: ``BUCKLER_API_KEYS``, else the project's default."""
    return Path(os.environ.get(API_KEYS_ENV) or paths.API_KEYS)


def create(path: Path, *, role: Role, name: str) -> tuple[ApiKey, str]:
    """Add a key to the file and return its record and the key itself, which cannot be recovered later.

    Raises:
        BucklerError: The name is invalid, or the file cannot be read or written.
    """
    if not NAME.fullmatch(name):
        raise BucklerError(
            f"expected a name of 1 to 64 letters, digits, spaces, dots, hyphens and underscores, got {name!r}"
        )
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    with _locked(path):
        keys = read(path)
        key = ApiKey(_new_id(keys), name, role, _hash(secret), _now())
        _write(path, (*keys, key))
    return key, secret


def revoke(path: Path, key_id: str) -> ApiKey:
    """Revoke the key with that id; its entry stays, so that old log lines can still be resolved to a name.

    Raises:
        BucklerError: The key does not exist or is already revoked, or the file cannot be read or written.
    """
    with _locked(path):
        keys = read(path)
        old = next((key for key in keys if key.id == key_id), None)
        if old is None:
            raise BucklerError(f"{path} has no key {key_id!r}; `buckler keys list` shows the ids")
        if old.revoked_at:
            raise BucklerError(f"key {key_id} was already revoked at {old.revoked_at}")
        revoked = dataclasses.replace(old, revoked_at=_now())
        _write(path, [revoked if key is old else key for key in keys])
    return revoked


def read(path: Path) -> tuple[ApiKey, ...]:
    """Return all keys of the file, including revoked ones, oldest first; none if the file does not exist.

    Raises:
        BucklerError: The file cannot be read or is not a key file. The message never quotes its content.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise BucklerError(f"the API keys: {exits.explain(error)}; or {API_KEYS_ENV} names another file") from error
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            raise ValueError
        return tuple(_parse(entry) for entry in document["keys"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BucklerError(
            f"{path} is not a file of API keys of schema {SCHEMA}; restore a copy, or move it away and create new keys"
        ) from error


def write_secret(path: Path, secret: str) -> None:
    """Write a key to a new file for another program to read.

    Raises:
        BucklerError: The file exists or cannot be written.
    """
    try:
        # Group-readable: Prometheus seldom runs as the user who creates the key.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret + "\n")
    except OSError as error:
        raise BucklerError(f"cannot write the key to {path} ({error.strerror}); name a new file") from error


class KeyRing:
    """The keys of a file, reloaded whenever the file changes."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._check_at = float("-inf")
        self._seen: tuple[int, int, int] | None = None
        self._valid: tuple[ApiKey, ...] = ()
        self._problem: str | None = None

    def find(self, secret: str) -> ApiKey | None:
        """Return the record of the presented key if it is valid, else None.

        Raises:
            BucklerError: The file cannot be read, so no key can be checked. Earlier content is not used: otherwise
                damaging the file would keep a revoked key valid.
        """
        self._refresh()
        if self._problem:
            raise BucklerError(self._problem)
        shown = _hash(secret)
        found = None
        for key in self._valid:
            # Compare all keys in constant time: the duration must not reveal how close a guess is.
            if hmac.compare_digest(key.sha256, shown):
                found = key
        return found

    def _refresh(self) -> None:
        now = self._clock()
        if now < self._check_at:
            return
        self._check_at = now + RELOAD_SECONDS
        # Before reading: a file replaced in between is then detected as changed next time.
        state = _state(self._path)
        # After a failure always read again: a corrected file mode changes none of these numbers.
        if state == self._seen and not self._problem:
            return
        self._seen = state
        try:
            self._valid, problem = _valid_keys(self._path), None
        except BucklerError as error:
            self._valid, problem = (), str(error)
        if problem != self._problem and problem:
            log.error("no API key is valid: %s", problem)
        self._problem = problem


def _valid_keys(path: Path) -> tuple[ApiKey, ...]:
    return tuple(key for key in read(path) if not key.revoked_at)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _hash(secret: str) -> str:
    # Plain SHA-256: salts and slow hashes protect guessable passwords. A key is 256 random bits and cannot be
    # guessed, and a slow hash would delay every request.
    return hashlib.sha256(secret.encode()).hexdigest()


def _new_id(keys: Sequence[ApiKey]) -> str:
    taken = {key.id for key in keys}
    while (key_id := secrets.token_hex(4)) in taken:
        pass
    return key_id


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _parse(entry: Any) -> ApiKey:
    key = ApiKey(**{**entry, "role": Role(entry["role"])})
    texts = (key.id, key.name, key.sha256, key.created_at, key.revoked_at or "")
    if not all(isinstance(text, str) for text in texts) or not re.fullmatch(r"[0-9a-f]{64}", key.sha256):
        raise ValueError
    return key


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time change the file, so that concurrent changes do not overwrite each other."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locks.exclusive(path.with_name(f".{path.name}.lock")):
            yield
    except OSError as error:
        raise BucklerError(f"the API keys: {exits.explain(error)}; or {API_KEYS_ENV} names another file") from error


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    document = {"schema": SCHEMA, "keys": [dataclasses.asdict(key) for key in keys]}
    files.write(path, json.dumps(document, indent=2).encode())
