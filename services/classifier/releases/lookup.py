"""Asks the registry for aliases and releases, and remembers the last release that was verified and served.

The only module of the service that imports the registry.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from buckler.serving.assessment import EARLIEST, OpenedRelease
from buckler.serving.registry import Registry
from buckler.serving.release_cache import ReleaseCache
from buckler.serving.version import Version
from buckler.state import files
from services.classifier.served import Candidate
from services.classifier.settings import Settings

LAST_GOOD = "last_good.json"
KEEP = 3  # the live release and two earlier ones


def named(settings: Settings, alias: str) -> Version:
    """Return the version with ``alias``; one request, no download.

    Raises:
        RegistryError: There is none, or the registry cannot be reached.
    """
    return Registry(settings.model_name).named(alias)


@contextmanager
def fetched(settings: Settings, entry: Version) -> Iterator[OpenedRelease]:
    """Yield a release: a cached copy, or a download that is deleted on exit unless ``keep`` moved it.

    Raises:
        RegistryError: The registry lacks the release or cannot be reached.
    """
    with _cache(settings).opened(entry, store=False) as release:
        yield release


def keep(candidate: Candidate, settings: Settings) -> Candidate:
    """Keep a release as the last good one; return it with its new path.

    Raises:
        OSError: It cannot be kept; the previous one still is.
        RefusedError: It is not authentic.
    """
    kept = replace(candidate, path=_cache(settings).add(candidate.path).path)
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
    return ReleaseCache(settings.releases_dir, Registry(settings.model_name), keep=KEEP)
