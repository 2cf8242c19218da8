"""Fetches the release that a service reports as live, so that its answers can be computed off-line."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buckler.errors import VerdictError
from buckler.state import paths
from buckler.trust import keys
from buckler.trust.verdict import open_release

KEEP = 2


def release_of(card: Mapping[str, Any], model_name: str) -> Path:
    """Return the directory of the release that a model card is about.

    Args:
        card: The model card from the service.
        model_name: Name in the registry.

    Raises:
        RegistryError: The registry lacks the release or cannot be reached.
        VerdictError: The registry's release of that version differs from the one that the service reports.
    """
    version, digest = str(card["model"]["version"]), str(card["model"]["digest"])
    place = paths.WATCH_RELEASES / digest.replace(":", "-")
    if not place.is_dir():
        _fetch(model_name, version, digest, place)
    place.touch()
    return place


def _fetch(model_name: str, version: str, digest: str, place: Path) -> None:
    from buckler.serving import registry  # MLflow takes seconds to load

    with registry.downloaded(model_name, version) as path:
        verdict = open_release(path, keys.load_public_key(), name=model_name)
        if verdict.subject_digest != digest:
            raise VerdictError(
                "digest",
                f"the service answers as version {version} with model {digest}, the registry has"
                f" {verdict.subject_digest} under that number",
            )
        paths.WATCH_RELEASES.mkdir(parents=True, exist_ok=True)
        aside = paths.WATCH_RELEASES / f".{place.name}"
        shutil.rmtree(aside, ignore_errors=True)
        shutil.move(path, aside)
        aside.rename(place)
    releases = sorted(paths.WATCH_RELEASES.glob("sha256-*"), key=lambda kept: kept.stat().st_mtime, reverse=True)
    for old in (kept for kept in releases[KEEP:] if kept != place):
        shutil.rmtree(old, ignore_errors=True)
