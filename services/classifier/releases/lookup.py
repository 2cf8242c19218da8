"""Asks the registry for aliases and releases, and remembers the last release that was verified and served.

The only module of the service that imports the registry.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from buckler.errors import VerdictError
from buckler.serving.assessment import OpenedRelease
from buckler.serving.registry import Registry, registry_id
from buckler.serving.release_cache import ReleaseCache
from buckler.serving.version import Version
from buckler.state import files
from buckler.trust import keys, promotion
from buckler.trust.head import KeptHead
from buckler.trust.promotion import PromotionRecord
from buckler.trust.public_keys import TrustedKeys
from services.classifier.served import Candidate
from services.classifier.settings import Settings

LAST_GOOD = "last_good.json"
HEAD = "head.json"
KEEP = 3  # the live release and two earlier ones


def named(settings: Settings, alias: str) -> Version:
    """Return the version with ``alias``; one request, no download.

    Raises:
        RegistryError: There is none, or the registry cannot be reached.
    """
    return Registry(settings.model_name).named(alias)


def entry(settings: Settings, number: str) -> Version:
    """Return a version; one request, no download.

    Raises:
        RegistryError: There is none, or the registry cannot be reached.
    """
    return Registry(settings.model_name).version(number)


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
        VerdictError: ``kept`` has no valid promotion.
    """
    trusted = keys.load_trusted_keys()
    before, now = last_good(settings, trusted), promoted(kept, settings, trusted)
    if before and before[1].sequence > now.sequence:
        return
    last = {
        "model": settings.model_name,
        "version": kept.version,
        "release": kept.path.name,
        "promotion": kept.promotion,
    }
    files.write(settings.releases_dir / LAST_GOOD, json.dumps(last).encode())


def last_good(settings: Settings, trusted: TrustedKeys) -> tuple[Candidate, PromotionRecord] | None:
    """Return the last good release of this model and its promotion; None without a note that ``trusted`` verifies.

    Whether the release is the promoted one is for the assessment to say.
    """
    try:
        last = json.loads((settings.releases_dir / LAST_GOOD).read_bytes())
        name, version, release, record = (str(last[field]) for field in ("model", "version", "release", "promotion"))
        candidate = Candidate(settings.releases_dir / release, version, record)
        found = promoted(candidate, settings, trusted)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, VerdictError):
        return None
    # A plain name only: the note must not point to other directories.
    if name != settings.model_name or Path(release).name != release:
        return None
    return candidate, found


def promoted(candidate: Candidate, settings: Settings, trusted: TrustedKeys) -> PromotionRecord:
    """Return the promotion of ``candidate``.

    Raises:
        VerdictError: ``not_promoted``.
    """
    return promotion.read(
        candidate.promotion,
        trusted.promotion,
        model_name=settings.model_name,
        version=candidate.version,
        registry=registry_id(),
    )


def entry_of(version: str, settings: Settings, promotion_text: str = "") -> Version:
    """Return the entry of a release that the service has, as the registry would give it."""
    return Version(
        settings.model_name, version, promotion=promotion_text, latest=promotion_text, registry=registry_id()
    )


def kept_head(settings: Settings) -> KeptHead:
    """Return the highest signed record of the model that the service has seen."""
    return KeptHead(settings.releases_dir / HEAD, model=settings.model_name, registry=registry_id())


def _cache(settings: Settings) -> ReleaseCache:
    return ReleaseCache(settings.releases_dir, Registry(settings.model_name), keep=KEEP)
