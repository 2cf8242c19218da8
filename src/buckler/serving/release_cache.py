"""Releases on disk, downloaded from the registry: the only place that downloads them.

The directory of a release is named after the id of its verdict, which determines every file of the release. A copy is
verified each time it is used; a damaged one is downloaded again. Several processes may share a cache: a release that
one of them uses is not deleted.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buckler.errors import DownloadError, VerdictError
from buckler.serving.assessment import OpenedRelease, Reason, ReasonCode
from buckler.serving.release_files import read_release
from buckler.serving.version import Version
from buckler.state import locks, paths
from buckler.trust.opened_files import OpenedFiles

if TYPE_CHECKING:
    from buckler.serving.registry import Registry

LOCK_FILE = ".lock"
INCOMING, DAMAGED, USED = ".incoming-", ".damaged-", ".used-"
ABANDONED_SECONDS = 3600  # longer than BUCKLER_DOWNLOAD_SECONDS can be: the process was killed
KEEP = 4  # champion and challenger, and their predecessors

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ReleaseCache:
    """The most recently used releases of one registered model."""

    def __init__(self, directory: Path, registry: "Registry", *, keep: int = KEEP) -> None:
        """Create nothing yet.

        Args:
            directory: Where the releases are stored.
            registry: Provides the releases and the keys that verify their verdicts.
            keep: Number of releases to keep.
        """
        self._directory, self._registry, self._keep = directory, registry, keep

    @contextmanager
    def opened(self, version: Version, *, fresh: bool = False, store: bool = True) -> Iterator[OpenedRelease]:
        """Yield the release of a version, which nobody deletes until the context ends.

        A release that is not authentic, or cannot be downloaded, is yielded as well, with the reasons, and deleted at
        the end. Its files are closed at the end. No lock is held while it is downloaded: of several processes that
        download the same release, each succeeds, and the first one's copy stays.

        Args:
            version: Its entry in the registry.
            fresh: Download it even if there is a copy: what matters is what a service on another machine would get.
            store: Keep an authentic download; without it, `add` may.

        Raises:
            RegistryError: The registry lacks the version or cannot be reached.
            OSError: The cache cannot be written.
        """
        with ExitStack() as stack:
            release = None if fresh else self._lent(version.verdict, stack)
            if release is None:
                release = self._fetched(version, stack) if store else stack.enter_context(self._downloaded(version))
            stack.callback(release.files.close)
            yield release

    @contextmanager
    def lent(self, verdict_id: str) -> Iterator[OpenedRelease | None]:
        """Yield the intact copy of the release with this verdict, which nobody deletes until the context ends.

        Nothing is downloaded; None without a copy.
        """
        with ExitStack() as stack:
            release = self._lent(verdict_id, stack)
            if release is not None:
                stack.callback(release.files.close)
            yield release

    def find(self, verdict_id: str) -> OpenedRelease | None:
        """Return the release with this verdict; None if there is no intact copy."""
        if not _DIGEST.fullmatch(verdict_id):  # it comes from outside and becomes part of a path
            return None
        found = self._read(self._path(verdict_id))
        if not found.authentic or found.require().id != verdict_id:
            return None
        _mark_used(found.path)
        return found

    def add(self, path: Path) -> OpenedRelease:
        """Move a release into the cache, unless an intact copy is there, and delete the least recently used ones.

        Args:
            path: Its directory, on the same file system.

        Raises:
            RefusedError: The release is not authentic.
            OSError: The cache cannot be written.
        """
        release = self._read(path)
        with self._locked():
            return self._stored(release)

    def _read(self, path: Path) -> OpenedRelease:
        return read_release(path, self._registry.keys.public(), model=self._registry.model)

    def _lent(self, verdict_id: str, stack: ExitStack) -> OpenedRelease | None:
        with self._locked():  # others delete nothing meanwhile
            found = self.find(verdict_id)
            if found:
                self._use(found, stack)
        return found

    def _fetched(self, version: Version, stack: ExitStack) -> OpenedRelease:
        with ExitStack() as download:
            release = download.enter_context(self._downloaded(version))
            if not release.authentic:
                stack.push(download.pop_all())
                return release
            with self._locked():
                stored = self._stored(release)
                self._use(stored, stack)
        return stored

    def _use(self, release: OpenedRelease, stack: ExitStack) -> None:
        """Keep the release from being deleted until ``stack`` ends."""
        lease = self._lease(release.path)
        lease.touch(mode=0o600)
        stack.enter_context(locks.shared(lease))

    @contextmanager
    def _downloaded(self, version: Version) -> Iterator[OpenedRelease]:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        with tempfile.TemporaryDirectory(prefix=INCOMING, dir=self._directory) as scratch:
            path = Path(scratch) / "release"
            try:
                self._registry.download(version.version, path)
            except DownloadError as error:
                reason = Reason(ReasonCode(error.reason), f"{version} cannot be downloaded: {error}")
                yield OpenedRelease(path, OpenedFiles.none(path), None, (reason,))
            else:
                yield self._read(path)

    def _stored(self, release: OpenedRelease) -> OpenedRelease:
        path = self._path(release.require().id)
        if self.find(release.require().id) is None:
            with tempfile.TemporaryDirectory(prefix=DAMAGED, dir=self._directory) as aside:
                if path.exists():
                    path.rename(Path(aside) / "release")
                release.path.rename(path)
        _mark_used(path)
        self._prune()
        return replace(release, path=path)

    def _path(self, verdict_id: str) -> Path:
        return self._directory / verdict_id.replace(":", "-")

    def _lease(self, path: Path) -> Path:
        return self._directory / f"{USED}{path.name}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with locks.exclusive(self._directory / LOCK_FILE):
            yield

    def _prune(self) -> None:
        releases = sorted(self._directory.glob("sha256-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in releases[self._keep :]:
            lease = self._lease(old)
            with suppress(locks.HeldError), locks.exclusive_at_once(lease):
                shutil.rmtree(old, ignore_errors=True)
                lease.unlink()

    def _remove_abandoned(self) -> None:
        """Remove what killed processes left; on a small disk it would leave no room for later releases."""
        for prefix in (INCOMING, DAMAGED):
            for path in self._directory.glob(f"{prefix}*"):
                with suppress(FileNotFoundError):  # its owner has just removed it
                    if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def shared(registry: "Registry") -> Iterator[ReleaseCache]:
    """Yield the project's cache, which commands, watch and console share; a temporary one if it cannot be written."""
    with suppress(OSError):
        paths.DOWNLOADS.mkdir(parents=True, exist_ok=True)
    if paths.DOWNLOADS.is_dir() and os.access(paths.DOWNLOADS, os.W_OK):
        yield ReleaseCache(paths.DOWNLOADS, registry)
        return
    with tempfile.TemporaryDirectory(prefix="buckler-") as scratch:
        yield ReleaseCache(Path(scratch), registry)


@contextmanager
def reported(card: Mapping[str, Any], registry: "Registry") -> Iterator[OpenedRelease]:
    """Yield the authentic release that a service reports, so that its answers can be computed offline.

    Args:
        card: The service's model card.
        registry: The registry that the service should use.

    Raises:
        RegistryError: The registry lacks the release or cannot be reached.
        RefusedError: The release is not authentic.
        VerdictError: The registry's release of that version differs from the one that the service reports.
    """
    number, expected = str(card["model"]["version"]), str(card["verdict"]["id"])
    version = Version(registry.model, number, verdict=expected)
    with shared(registry) as cache, cache.opened(version) as release:
        if release.require().id != expected:
            raise VerdictError(
                "digest",
                f"expected verdict {expected} with {version}, the registry has {release.require().id}; does the service"
                " use another registry?",
            )
        yield release


def _mark_used(path: Path) -> None:
    with suppress(OSError):
        os.utime(path)
