"""Sources of releases: the registry's champion, its challenger, or a directory that the operator names."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from buckler.errors import VerdictError
from buckler.serving.aliases import CHAMPION
from buckler.serving.assessment import OpenedRelease, RefusedError
from buckler.serving.release_files import read_release
from buckler.serving.version import Version
from buckler.state import exits
from buckler.trust import keys, verdict
from services.classifier.releases import lookup
from services.classifier.served import Candidate
from services.classifier.settings import Settings

FROM_DIRECTORY = "local"  # the version of a release from a directory

logger = logging.getLogger("buckler.service")


class ReleaseSource(Protocol):
    """Names the release to load. ``look`` is cheap and called often; ``fetched`` provides the files.

    Attributes:
        promotes: Whether its releases need a signed promotion.
    """

    promotes: bool

    def look(self) -> Version:
        """Return the entry of the release to load.

        Raises:
            RegistryError, VerdictError: There is none, or the source cannot be read.
        """
        ...

    def entry(self, version: str) -> Version:
        """Return the entry of a version, as cheaply as ``look``, whichever release is to be loaded.

        Raises:
            RegistryError: There is none, or the source cannot be read.
        """
        ...

    def fetched(self, entry: Version) -> AbstractContextManager[OpenedRelease]:
        """Yield the release on disk, authentic or not; it may be deleted on exit."""
        ...

    def keep(self, candidate: Candidate) -> Candidate | None:
        """Keep a verified release for when the source cannot be read; return its copy, None if it is not kept."""
        ...


class RegistrySource:
    """The version that an alias names.

    The champion needs a promotion at every change, also for a roll-back; clients never get the challenger's answers.
    """

    def __init__(self, settings: Settings, alias: str) -> None:
        self._settings, self._alias = settings, alias
        self.promotes = alias == CHAMPION

    def look(self) -> Version:
        """Return the version with the alias; see `ReleaseSource`."""
        return lookup.named(self._settings, self._alias)

    def entry(self, version: str) -> Version:
        """Return the registry's entry; see `ReleaseSource`."""
        return lookup.entry(self._settings, version)

    def fetched(self, entry: Version) -> AbstractContextManager[OpenedRelease]:
        """Yield a cached copy or a download; see `ReleaseSource`."""
        return lookup.fetched(self._settings, entry)

    def keep(self, candidate: Candidate) -> Candidate | None:
        """Keep a champion as the last good release; see `ReleaseSource`."""
        if not self.promotes:
            return None
        try:
            return lookup.keep(candidate, self._settings)
        except (OSError, RefusedError, VerdictError) as error:  # a full disk must not stop a verified release
            why = exits.explain(error) if isinstance(error, OSError) else error
            logger.warning("the champion answers, but a restart needs the registry: no copy of it is kept: %s", why)
            return None


class DirectorySource:
    """A release in a directory of the operator; write access to the directory replaces a promotion."""

    promotes = False

    def __init__(self, settings: Settings, path: Path) -> None:
        self._name, self._path = settings.model_name, path

    def look(self) -> Version:
        """Return an entry that changes with the verdict file's inode, size or time; see `ReleaseSource`."""
        try:
            stat = (self._path / verdict.VERDICT_FILE).stat()
        except OSError as error:
            raise VerdictError("missing", f"expected a release in {self._path}: {error}") from error
        state = f"{stat.st_dev}.{stat.st_ino}.{stat.st_size}.{stat.st_mtime_ns}"
        return Version(self._name, FROM_DIRECTORY, digest=state)

    def entry(self, version: str) -> Version:
        """Return an entry without a standing; see `ReleaseSource`."""
        return Version(self._name, version)

    @contextmanager
    def fetched(self, entry: Version) -> Iterator[OpenedRelease]:
        """Yield the directory itself; see `ReleaseSource`."""
        yield read_release(self._path, keys.load_trusted_keys(), model=self._name)

    def keep(self, candidate: Candidate) -> Candidate | None:
        """Return None; see `ReleaseSource`."""
        return None
