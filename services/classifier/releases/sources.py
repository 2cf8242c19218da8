"""Where releases come from: the registry's champion, its challenger, or a directory that the operator named."""

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

FROM_DIRECTORY = "local"  # the version of a release that was given as a directory

logger = logging.getLogger("buckler.service")


class ReleaseSource(Protocol):
    """Names a release, cheaply and again and again, and gives it once somebody wants it."""

    def look(self) -> ReleaseEntry:
        """Return what is named now.

        Raises:
            RegistryError, VerdictError: Nothing is, or it cannot be found out.
        """
        ...

    def admit(self, entry: ReleaseEntry, key: Ed25519PublicKey, newest: datetime) -> PromotionRecord | None:
        """Return the record by which it may serve, None if it needs none.

        Args:
            entry: What ``look`` returned.
            key: Of whom the record must be signed.
            newest: Time of the newest record that was followed.

        Raises:
            VerdictError: It may not serve.
        """
        ...

    def fetched(self, entry: ReleaseEntry, key: Ed25519PublicKey) -> AbstractContextManager[Candidate]:
        """Give the release on disk, for as long as the context lasts."""
        ...

    def keep(self, candidate: Candidate, key: Ed25519PublicKey) -> Candidate | None:
        """Keep what verified for when the source is away; return where, None if it is not kept."""
        ...


class ChampionSource:
    """The registry's champion: by a signed promotion only, and never back without one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def look(self) -> ReleaseEntry:
        """Return the champion; see `ReleaseSource`."""
        return _named(self._settings, CHAMPION)

    def admit(self, entry: ReleaseEntry, key: Ed25519PublicKey, newest: datetime) -> PromotionRecord | None:
        """Return the record of its promotion; see `ReleaseSource`."""
        name, version = self._settings.model_name, entry.version
        record = promotion.read(entry.promotion, key, model_name=name, version=version)
        if record.moment < newest:
            raise VerdictError(
                "superseded",
                f"version {version} of {name} was promoted at {record.moment.isoformat()}, another one since, at"
                f" {newest.isoformat()}: the alias was moved back by hand; `buckler rollback` goes back",
            )
        return record

    def fetched(self, entry: ReleaseEntry, key: Ed25519PublicKey) -> AbstractContextManager[Candidate]:
        """Download it; see `ReleaseSource`."""
        return lookup.fetched(self._settings, entry, key)

    def keep(self, candidate: Candidate, key: Ed25519PublicKey) -> Candidate | None:
        """Keep it as the last good one; see `ReleaseSource`."""
        try:
            return lookup.keep(candidate, self._settings, key)
        except (OSError, VerdictError) as error:  # a full disk must not stop a verified release
            logger.warning("the champion's release cannot be kept for later: %s", error)
            return None


class ChallengerSource:
    """The registry's challenger, for a shadow: it never answers, so it needs no promotion."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def look(self) -> ReleaseEntry:
        """Return the challenger; see `ReleaseSource`."""
        return _named(self._settings, CHALLENGER)

    def admit(self, entry: ReleaseEntry, key: Ed25519PublicKey, newest: datetime) -> PromotionRecord | None:
        """Return None; see `ReleaseSource`."""
        return None

    def fetched(self, entry: ReleaseEntry, key: Ed25519PublicKey) -> AbstractContextManager[Candidate]:
        """Download it; see `ReleaseSource`."""
        return lookup.fetched(self._settings, entry, key)

    def keep(self, candidate: Candidate, key: Ed25519PublicKey) -> Candidate | None:
        """Return None; see `ReleaseSource`."""
        return None


class DirectorySource:
    """A release that the operator put somewhere: whoever may write there is trusted to say which one serves."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def look(self) -> ReleaseEntry:
        """Return what is there, by the verdict file's time and place on the disk; see `ReleaseSource`."""
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
        """Give it where it lies; see `ReleaseSource`."""
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
