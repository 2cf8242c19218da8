"""Asks the registry for aliases and releases, and remembers the last release that was verified and served.

The only module of the service that imports the registry.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.serving.aliases import CHAMPION
from buckler.serving.release_cache import ReleaseCache
from buckler.state import files
from services.classifier.served import EARLIEST, Candidate, ReleaseEntry
from services.classifier.settings import Settings

LAST_GOOD = "last_good.json"
KEEP = 3  # the live release and two earlier ones


def current(settings: Settings, alias: str = CHAMPION) -> ReleaseEntry | None:
    """Return the entry of the version with ``alias``, None without one; one request, no download.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    from buckler.serving import registry  # MLflow takes seconds to load and is not needed for a release on disk

    found = registry.by_alias(settings.model_name, alias)
    if found is None:
        return None
    return ReleaseEntry(found.version, found.digest, found.verdict, found.promotion, found.standing)


@contextmanager
def fetched(settings: Settings, entry: ReleaseEntry, key: Ed25519PublicKey) -> Iterator[Candidate]:
    """Yield a release: a cached copy, or a download that is deleted on exit unless ``keep`` moved it.

    Raises:
        RegistryError: The registry lacks the release or cannot be reached.
    """
    cache = _cache(settings)
    if cached := cache.find(entry.verdict, key):
        yield Candidate(cached.path, entry.version)
        return
    with cache.downloaded(entry.version) as path:
        yield Candidate(path, entry.version)


def keep(candidate: Candidate, settings: Settings, key: Ed25519PublicKey) -> Candidate:
    """Keep a release as the last good one; return it with its new path.

    Raises:
        OSError: It cannot be kept; the previous one still is.
        VerdictError: It is not authentic.
    """
    cached = _cache(settings).add(candidate.path, key)
    kept = replace(candidate, path=cached.path)
    note(kept, settings)
    return kept


def note(kept: Candidate, settings: Settings) -> None:
    """Store that ``kept`` is the last good release, unless another worker has noted a later promotion.

    Raises:
        OSError: The note cannot be written.
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
    """Return the last good release of this model; None without a usable note."""
    try:
        last = json.loads((settings.releases_dir / LAST_GOOD).read_bytes())
        name, version, release = (str(last[key]) for key in ("model", "version", "release"))
        promoted_at = datetime.fromisoformat(last.get("promoted_at") or EARLIEST.isoformat())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    # A plain name only: the note must not point to other directories.
    if name != settings.model_name or Path(release).name != release or promoted_at.tzinfo is None:
        return None
    return Candidate(settings.releases_dir / release, version, promoted_at)


def _cache(settings: Settings) -> ReleaseCache:
    return ReleaseCache(settings.releases_dir, settings.model_name, keep=KEEP)
