"""Reads the registry to answer whether a version may serve; `buckler.serving.assessment` has the rules."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from buckler.errors import VerdictError
from buckler.serving import release_cache
from buckler.serving.aliases import CHAMPION
from buckler.serving.assessment import Assessment, OpenedRelease, assess, newest_standing
from buckler.serving.registry import Registry
from buckler.serving.version import Version
from buckler.trust import promotion, standing
from buckler.trust.promotion import PromotionRecord
from buckler.trust.standing import Standing

TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Assessor:
    """Assesses the versions of one model at one time.

    Attributes:
        registry: The model's entries; its key must have signed every verdict, standing and promotion.
        now: Aware time at which expiry is checked.
    """

    registry: Registry
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def champion(self) -> Assessment | None:
        """Assess the champion; None without a champion.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        champion = self.registry.by_alias(CHAMPION)
        if champion is None:
            return None
        with self.opened(champion) as (_, found):
            return found

    @contextmanager
    def opened(self, version: Version, *, promoted: bool = True) -> Iterator[tuple[OpenedRelease, Assessment]]:
        """Yield the release of ``version``, which stays on disk until the context ends, and its assessment.

        It is downloaded even if there is a copy: what a service on another machine would get is assessed.

        Args:
            version: Its entry in the registry.
            promoted: Whether it needs a promotion.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        with release_cache.shared(self.registry) as cache, cache.opened(version, fresh=True) as release:
            yield release, self.of(version, release, promoted=promoted)

    def of(self, version: Version, release: OpenedRelease, *, promoted: bool = True) -> Assessment:
        """Assess ``version`` with its release on disk."""
        key, flaws = self.registry.keys.public(), release.reasons
        return assess(version, release.verdict, key, now=self.now, flaws=flaws, promoted=promoted)

    def last_standing(self, version: Version) -> Standing:
        """Return the standing of ``version``; a stored one that is not valid is ignored.

        Raises:
            RegistryError: The registry cannot be reached.
            RefusedError: The version has no authentic release.
        """
        stored, _ = newest_standing(version, self.registry.keys.public())
        if stored is not None:
            return stored
        with release_cache.shared(self.registry) as cache, cache.opened(version) as release:
            return standing.of_verdict(release.require(), model_name=version.model, version=version.version)

    def promotions(self) -> Iterator[PromotionRecord]:
        """Yield the valid promotion records of all versions.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        key = self.registry.keys.public()
        for version in self.registry.versions():
            with suppress(VerdictError):
                yield promotion.read(version.promotion, key, model_name=version.model, version=version.version)

    def moment_after(self, earlier: Iterable[datetime]) -> datetime:
        """Return ``now``, or just after the latest of ``earlier`` if the clock was set back since.

        The service rejects a signed statement that is older than the newest it has accepted.
        """
        return max([self.now, *(moment + TICK for moment in earlier)])
