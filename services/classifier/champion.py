"""Finds the release that the registry calls champion, and keeps the last one that verified.

The only module of the service that knows the registry. Releases lie in ``<releases_dir>/sha256-<digest>/``,
named by the digest of all their bytes, and are moved there whole: several workers may do so at once, and
one that is killed leaves no half release behind.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from buckler import durable, signing
from buckler.errors import VerdictError
from services.classifier.settings import Settings

LAST_GOOD = "last_good.json"
KEEP = 3  # releases on disk: the one that serves, and some to go back to while the registry is away


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release that might serve; nothing about it is believed yet."""

    path: Path
    version: str


@contextmanager
def downloaded(settings: Settings) -> Iterator[Candidate]:
    """Give the champion's release in a temporary directory; what ``keep`` did not move is gone afterwards.

    Raises:
        RegistryError: The registry has no champion of that name, or cannot be reached.
    """
    from buckler import tracking  # MLflow takes seconds to load and is not needed for a release on disk

    settings.releases_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=settings.releases_dir) as temporary:
        path, version = tracking.champion_release(settings.model_name, Path(temporary) / "release")
        yield Candidate(path, version)


def keep(candidate: Candidate, settings: Settings) -> None:
    """Make a release that verified the last good one."""
    digest = signing.directory_digest(candidate.path)
    place = settings.releases_dir / digest.replace(":", "-")
    if _digest_on_disk(place) != digest:
        with tempfile.TemporaryDirectory(prefix=".damaged-", dir=settings.releases_dir) as aside:
            if place.exists():
                place.rename(Path(aside) / "release")
            _move(candidate.path, place)
    place.touch()
    last_good = {"model": settings.model_name, "version": candidate.version, "release": place.name}
    durable.write(settings.releases_dir / LAST_GOOD, json.dumps(last_good).encode())
    _prune(settings.releases_dir)


def last_good(settings: Settings) -> Candidate | None:
    """Return the release that verified last under this model name, if it is still there."""
    try:
        note = json.loads((settings.releases_dir / LAST_GOOD).read_bytes())
        name, version, release = (str(note[key]) for key in ("model", "version", "release"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # A plain name only: the note is no place to point at other directories from.
    if name != settings.model_name or Path(release).name != release:
        return None
    return Candidate(settings.releases_dir / release, version)


def _digest_on_disk(place: Path) -> str | None:
    try:
        return signing.directory_digest(place)
    except VerdictError:
        return None


def _move(source: Path, place: Path) -> None:
    try:
        source.rename(place)
    except OSError:
        if not place.is_dir():  # else another worker was first, with the same bytes
            raise


def _prune(directory: Path) -> None:
    releases = sorted(directory.glob("sha256-*"), key=lambda place: place.stat().st_mtime, reverse=True)
    for old in releases[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
