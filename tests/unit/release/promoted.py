"""Promotes at a fixed time."""

from datetime import UTC, datetime, timedelta

from buckler.release.promote import Move
from buckler.release.promote import promote as promote_release
from buckler.release.tracking import WritableRegistry
from tests import projects

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at(days: int) -> datetime:
    return NOW + timedelta(days=days)


def registry_of(name: str) -> WritableRegistry:
    return WritableRegistry(name, projects.KEYS)


def promote(name: str, days: int = 0, number: str | None = None) -> Move:
    return promote_release(registry_of(name), number=number, now=at(days))
