"""The live model's release, so that the answers of a service can be computed offline."""

from collections.abc import Mapping
from typing import Any

from buckler.serving.release_cache import CachedRelease, ReleaseCache
from buckler.state import paths
from buckler.trust import keys

KEEP = 2


def cache(model_name: str) -> ReleaseCache:
    """Return the cache that the jobs share."""
    return ReleaseCache(paths.WATCH_RELEASES, model_name, keep=KEEP)


def release_of(card: Mapping[str, Any], model_name: str) -> CachedRelease:
    """Return the release that a model card describes.

    Args:
        card: The model card from the service.
        model_name: Name in the registry.

    Raises:
        RegistryError: The registry lacks the release or cannot be reached.
        VerdictError: The registry's release of that version differs from the one that the service reports.
    """
    version, verdict_id = str(card["model"]["version"]), str(card["verdict"]["id"])
    return cache(model_name).get(version, keys.load_public_key(), verdict_id=verdict_id)
