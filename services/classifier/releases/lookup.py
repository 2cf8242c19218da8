"""Asks the registry which release it names, fetches it, and keeps the last one that verified.

The only module of the service that knows the registry. Releases lie in ``<releases_dir>/sha256-<digest>/``,
named by the digest of all their bytes, and are moved there whole: several workers may do so at once, and
one that is killed leaves no half release behind.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from buckler.errors import VerdictError
from buckler.serving.aliases import CHAMPION
from buckler.state import files
from buckler.trust import digests
from services.classifier.served import EARLIEST, Candidate, ReleaseEntry
from services.classifier.settings import Settings

LAST_GOOD = "last_good.json"
KEEP = 3  # releases on disk: the one that serves, and some to go back to while the registry is away
INCOMING, DAMAGED = ".incoming-", ".damaged-"
ABANDONED_SECONDS = 3600  # no download takes so long: whoever began it was killed


def current(settings: Settings, alias: str = CHAMPION) -> ReleaseEntry | None:
    """Return what bears ``alias`` now, None if nothing does; one question, nothing is fetched.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    from buckler.serving import registry  # MLflow takes seconds to load and is not needed for a release on disk

    found = registry.by_alias(settings.model_name, alias)
    if found is None:
        return None
    return ReleaseEntry(found.version, found.digest, found.verdict, found.promotion, found.standing)


@contextmanager
def downloaded(settings: Settings, version: str) -> Iterator[Candidate]:
    """Give the release of a version in a temporary directory; what ``keep`` did not move is gone afterwards.

    Raises:
        RegistryError: The registry does not have it, or cannot be reached.
    """
    from buckler.serving import registry

    settings.releases_dir.mkdir(parents=True, exist_ok=True)
    _sweep(settings.releases_dir)
    with tempfile.TemporaryDirectory(prefix=INCOMING, dir=settings.releases_dir) as temporary:
        yield Candidate(registry.download(settings.model_name, version, Path(temporary) / "release"), version)


def keep(candidate: Candidate, settings: Settings) -> Candidate:
    """Make a release that verified the last good one, and return it where it is kept.

    Raises:
        OSError: It cannot be kept; what was kept before still is.
    """
    digest = digests.directory_digest(candidate.path)
    place = settings.releases_dir / digest.replace(":", "-")
    if _digest_on_disk(place) != digest:
        with tempfile.TemporaryDirectory(prefix=DAMAGED, dir=settings.releases_dir) as aside:
            if place.exists():
                place.rename(Path(aside) / "release")
            _move(candidate.path, place)
    place.touch()
    kept = replace(candidate, path=place)
    note(kept, settings)
    _prune(settings.releases_dir)
    return kept


def note(kept: Candidate, settings: Settings) -> None:
    """Write down that ``kept`` verified last, unless another worker is ahead of this one.

    Raises:
        OSError: It cannot be written.
    """
    before = last_good(settings)
    if before and before.promoted_at > kept.promoted_at:
        return
    last = {
        "model": settings.model_name,
        "version": kept.version,
        "release": kept.path.name,
        "promoted_at": kept.promoted_at.isoformat(),
    }
    files.write(settings.releases_dir / LAST_GOOD, json.dumps(last).encode())


def last_good(settings: Settings) -> Candidate | None:
    """Return the release that verified last under this model name, if it is still there."""
    try:
        last = json.loads((settings.releases_dir / LAST_GOOD).read_bytes())
        name, version, release = (str(last[key]) for key in ("model", "version", "release"))
        promoted_at = datetime.fromisoformat(last.get("promoted_at") or EARLIEST.isoformat())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    # A plain name only: the note is no place to point at other directories from.
    if name != settings.model_name or Path(release).name != release or promoted_at.tzinfo is None:
        return None
    return Candidate(settings.releases_dir / release, version, promoted_at)


def _digest_on_disk(place: Path) -> str | None:
    try:
        return digests.directory_digest(place)
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


def _sweep(directory: Path) -> None:
    """Remove what killed workers left behind: on a small disk it would keep every later release out."""
    for prefix in (INCOMING, DAMAGED):
        for left in directory.glob(f"{prefix}*"):
            try:
                abandoned = time.time() - left.stat().st_mtime > ABANDONED_SECONDS
            except FileNotFoundError:  # its owner was faster
                continue
            if abandoned:
                shutil.rmtree(left, ignore_errors=True)
