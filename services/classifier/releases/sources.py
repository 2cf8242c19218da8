"""Sources of releases: the registry's champion, its challenger, or a directory that the operator names."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.errors import RegistryError, VerdictError
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.trust import promotion, verdict
from buckler.trust.promotion import PromotionRecord
from services.classifier.releases import lookup
from services.classifier.served import Candidate, ReleaseEntry
from services.classifier.settings import Settings

FROM_DIRECTORY = "local"  # the version of a release from a directory

logger = logging.getLogger("buckler.service")


class ReleaseSource(Protocol):
    """Names the release to load. ``look`` is cheap and called often; ``fetched`` provides the files."""

    def look(self) -> ReleaseEntry:
        """Return the entry of the release to load.

        Raises:
            RegistryError, VerdictError: There is none, or the source cannot be read.
        """
        ...

    def admit(self, entry: ReleaseEntry, key: Ed25519PublicKey, newest: datetime) -> PromotionRecord | None:
        """Return the promotion record of the release; None if it needs none.

        Args:
            entry: An entry from ``look``.
            key: Public key that must have signed the record.
            newest: Time of the newest record that was accepted.

        Raises:
            VerdictError: The release may not be loaded.
        """
        ...

    def fetched(self, entry: ReleaseEntry, key: Ed25519PublicKey) -> AbstractContextManager[Candidate]:
        """Yield the unverified release on disk; it may be deleted on exit."""
        ...

    def keep(self, candidate: Candidate, key: Ed25519PublicKey) -> Candidate | None:
        """Keep a verified release for when the source cannot be read; return its copy, None if it is not kept."""
        ...


class ChampionSource:
    """The registry's champion; every change, also a roll-back, needs a signed promotion."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def look(self) -> ReleaseEntry:
        """Return the champion; see `ReleaseSource`."""
        return _named(self._settings, CHAMPION)

    def admit(self, entry: ReleaseEntry, key: Ed25519PublicKey, newest: datetime) -> PromotionRecord | None:
        """Return its promotion record, which must not be older than ``newest``; see `ReleaseSource`."""
        name, version = self._settings.model_name, entry.version
        record = promotion.read(entry.promotion, key, model_name=name, version=version)
        if record.moment < newest:
            raise VerdictError(
                "superseded",
                f"version {version} of {name} was promoted at {record.moment.isoformat()}, another version later, at"
                f" {newest.isoformat()}: the alias was moved by hand; use `buckler rollback`",
            )
        return record

    def fetched(self, entry: ReleaseEntry, key: Ed25519PublicKey) -> AbstractContextManager[Candidate]:
        """Yield a cached copy or a download; see `ReleaseSource`."""
        return lookup.fetched(self._settings, entry, key)

    def keep(self, candidate: Candidate, key: Ed25519PublicKey) -> Candidate | None:
        """Keep it as the last good release; see `ReleaseSource`."""
        try:
            return lookup.keep(candidate, self._settings, key)
        except (OSError, VerdictError) as error:  # a full disk must not stop a verified release
            logger.warning("cannot keep a copy of the champion's release: %s", error)
            return None


class ChallengerSource:
    """The registry's challenger, for shadow comparison; clients never get its answers, so it needs no promotion."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def look(self) -> ReleaseEntry:
        """Return the challenger; see `ReleaseSource`."""
        return _named(self._settings, CHALLENGER)

    def admit(self, entry: ReleaseEntry, key: Ed25519PublicKey, newest: datetime) -> PromotionRecord | None:
        """Return None; see `ReleaseSource`."""
        return None

    def fetched(self, entry: ReleaseEntry, key: Ed25519PublicKey) -> AbstractContextManager[Candidate]:
        """Yield a cached copy or a download; see `ReleaseSource`."""
        return lookup.fetched(self._settings, entry, key)

    def keep(self, candidate: Candidate, key: Ed25519PublicKey) -> Candidate | None:
        """Return None; see `ReleaseSource`."""
        return None


class DirectorySource:
    """A release in a directory of the operator; write access to the directory replaces a promotion."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def look(self) -> ReleaseEntry:
        """Return an entry that changes with the verdict file's inode, size or time; see `ReleaseSource`."""
        try:
            stat = (self._path / verdict.VERDICT_FILE).stat()
        except OSError as error:
            raise VerdictError("missing", f"expected a release in {self._path}: {error}") from error
        return ReleaseEntry(FROM_DIRECTORY, f"{stat.st_dev}.{stat.st_ino}.{stat.st_size}.{stat.st_mtime_ns}")

    def admit(self, entry: ReleaseEntry, key: Ed25519PublicKey, newest: datetime) -> PromotionRecord | None:
        """Return None; see `ReleaseSource`."""
        return None

    @contextmanager
    def fetched(self, entry: ReleaseEntry, key: Ed25519PublicKey) -> Iterator[Candidate]:
        """Yield the directory itself; see `ReleaseSource`."""
        yield Candidate(self._path, entry.version)

    def keep(self, candidate: Candidate, key: Ed25519PublicKey) -> Candidate | None:
        """Return None; see `ReleaseSource`."""
        return None


def _named(settings: Settings, alias: str) -> ReleaseEntry:
    entry = lookup.current(settings, alias)
    if entry is None:
        raise RegistryError(
            f"{settings.model_name} has no {alias} in the registry; `dvc repro` publishes a challenger,"
            " `buckler promote` makes it champion"
        )
    return entry
