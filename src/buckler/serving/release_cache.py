"""Verified releases on disk, each downloaded from the registry once.

The directory of a release is named after the id of its verdict, which determines every file of the release. A copy is
verified each time it is used; a damaged one is downloaded again. Several processes may share a cache.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.errors import VerdictError
from buckler.state import locks
from buckler.trust.verdict import Verdict, open_release

LOCK_FILE = ".lock"
INCOMING, DAMAGED = ".incoming-", ".damaged-"
ABANDONED_SECONDS = 3600  # longer than any download: the process was killed

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CachedRelease:
    """A release in the cache and its authentic verdict, which may have failed or expired."""

    path: Path
    verdict: Verdict


class ReleaseCache:
    """The most recently used releases of one registered model."""

    def __init__(self, directory: Path, model_name: str, *, keep: int) -> None:
        """Create nothing yet.

        Args:
            directory: Where the releases are stored.
            model_name: Name in the registry; each verdict must be about it.
            keep: Number of releases to keep.
        """
        self._directory, self._model_name, self._keep = directory, model_name, keep

    def get(self, version: str, key: Ed25519PublicKey, *, verdict_id: str = "") -> CachedRelease:
        """Return the release of a version; other processes wait while one downloads it.

        Args:
            version: Number in the registry.
            key: Public key that must have signed the verdict.
            verdict_id: Expected verdict. Without it, the release is always downloaded.

        Raises:
            RegistryError: The registry lacks the version or cannot be reached.
            VerdictError: The release is not authentic, or has another verdict than the expected one.
        """
        with self._locked():
            if found := self.find(verdict_id, key):
                return found
            with self.downloaded(version) as release:
                verdict = open_release(release, key, name=self._model_name)
                if verdict_id and verdict.id != verdict_id:
                    raise VerdictError(
                        "digest",
                        f"expected verdict {verdict_id} with version {version} of {self._model_name}, the registry has"
                        f" {verdict.id}; does the service use another registry?",
                    )
                return self._store(release, verdict, key)

    def find(self, verdict_id: str, key: Ed25519PublicKey) -> CachedRelease | None:
        """Return the release with this verdict; None if there is no intact copy."""
        if not _DIGEST.fullmatch(verdict_id):  # it comes from outside and becomes part of a path
            return None
        path = self._path(verdict_id)
        try:
            verdict = open_release(path, key, name=self._model_name)
        except (VerdictError, OSError):
            return None
        if verdict.id != verdict_id:
            return None
        _mark_used(path)
        return CachedRelease(path, verdict)

    @contextmanager
    def downloaded(self, version: str) -> Iterator[Path]:
        """Yield the unverified release of a version in a temporary directory.

        Raises:
            RegistryError: The registry lacks the version or cannot be reached.
        """
        from buckler.serving import registry  # MLflow takes seconds to load; a release on disk does not need it

        self._directory.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        with tempfile.TemporaryDirectory(prefix=INCOMING, dir=self._directory) as scratch:
            yield registry.download(self._model_name, version, Path(scratch) / "release")

    def add(self, release: Path, key: Ed25519PublicKey) -> CachedRelease:
        """Move ``release`` into the cache, unless an intact copy is there, and delete the least recently used ones.

        Args:
            release: Directory on the same file system.
            key: Public key that must have signed the verdict.

        Raises:
            VerdictError: The release is not authentic.
            OSError: The cache cannot be written.
        """
        verdict = open_release(release, key, name=self._model_name)
        with self._locked():
            return self._store(release, verdict, key)

    def _store(self, release: Path, verdict: Verdict, key: Ed25519PublicKey) -> CachedRelease:
        path = self._path(verdict.id)
        if self.find(verdict.id, key) is None:
            with tempfile.TemporaryDirectory(prefix=DAMAGED, dir=self._directory) as aside:
                if path.exists():
                    path.rename(Path(aside) / "release")
                release.rename(path)
        _mark_used(path)
        self._prune()
        return CachedRelease(path, verdict)

    def _path(self, verdict_id: str) -> Path:
        return self._directory / verdict_id.replace(":", "-")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with locks.exclusive(self._directory / LOCK_FILE):
            yield

    def _prune(self) -> None:
        releases = sorted(self._directory.glob("sha256-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in releases[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def _remove_abandoned(self) -> None:
        """Remove what killed processes left; on a small disk it would leave no room for later releases."""
        for prefix in (INCOMING, DAMAGED):
            for path in self._directory.glob(f"{prefix}*"):
                with suppress(FileNotFoundError):  # its owner has just removed it
                    if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                        shutil.rmtree(path, ignore_errors=True)


def _mark_used(path: Path) -> None:
    with suppress(OSError):
        os.utime(path)
