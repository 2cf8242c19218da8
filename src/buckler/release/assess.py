"""Reads the registry to answer whether a version may serve; `buckler.serving.assessment` has the rules."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from buckler.errors import VerdictError
from buckler.serving import release_cache
from buckler.serving.aliases import CHAMPION
from buckler.serving.assessment import (
    Accepted,
    Assessment,
    OpenedRelease,
    Reason,
    approvals_of,
    assess,
    promoted_by,
)
from buckler.serving.registry import Registry
from buckler.serving.version import Version
from buckler.trust.approval import Approvals
from buckler.trust.journal import Journal
from buckler.trust.promotion import PromotionRecord
from buckler.trust.signed import Records
from buckler.trust.verdict import Verdict

Flaws = Callable[[OpenedRelease], tuple[Reason, ...]]


def no_flaws(_: OpenedRelease) -> tuple[Reason, ...]:
    """Return no reason against a release."""
    return ()


@dataclass(frozen=True, slots=True)
class Assessor:
    """Assesses the versions of one model at one time.

    What the signer's journal on this machine has counts as accepted: the registry can neither hide nor replace it.

    Attributes:
        registry: The model's entries; its keys verify every verdict, standing and promotion.
        now: Aware time at which expiry is checked.
        signed: What was signed; default: what this machine's journal has. Without records it answers as a new service.
    """

    registry: Registry
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    signed: Records | None = None

    def champion(self, flaws: Flaws = no_flaws) -> Assessment | None:
        """Assess the champion; None without a champion.

        Args:
            flaws: Finds more reasons against its release, as `buckler.serving.loadable.flaws`, which loads it.

        Raises:
            RegistryError: The registry cannot be reached.
            JournalError: The journal is not valid.
        """
        champion = self.registry.by_alias(CHAMPION)
        if champion is None:
            return None
        with self.opened(champion) as (release, found):
            return found.also(flaws(release))

    @contextmanager
    def opened(self, version: Version, *, promoted: bool = True) -> Iterator[tuple[OpenedRelease, Assessment]]:
        """Yield the release of ``version``, which stays on disk until the context ends, and its assessment.

        It is downloaded even if there is a copy: what a service on another machine would get is assessed.

        Args:
            version: Its entry in the registry.
            promoted: Whether it needs a promotion.

        Raises:
            RegistryError: The registry cannot be reached.
            JournalError: The journal is not valid.
        """
        with release_cache.shared(self.registry) as cache, cache.opened(version, fresh=True) as release:
            yield release, self.of(version, release, promoted=promoted)

    def of(self, version: Version, release: OpenedRelease, *, promoted: bool = True) -> Assessment:
        """Assess ``version`` with its release on disk.

        Raises:
            JournalError: The journal is not valid.
        """
        keys, flaws, records = self.registry.keys.public(), release.reasons, self.records()
        known = records.standing(version.version, release.verdict.id) if release.verdict else None
        accepted = Accepted(known, records.champion.sequence if records.champion else 0)
        return assess(version, release.verdict, keys, now=self.now, flaws=flaws, promoted=promoted, accepted=accepted)

    def approvals(self, version: Version, proof: Verdict) -> Approvals:
        """Return who has approved a release: in the registry, or in its earlier promotions, which the journal keeps.

        Raises:
            VerdictError: ``malformed``: what the verdict demands cannot be read.
            JournalError: The journal is not valid.
        """
        promotions = [each.record for each in self.records().entries if isinstance(each.record, PromotionRecord)]
        with suppress(VerdictError):
            promotions.append(promoted_by(version, self.registry.keys.public()))
        texts = [*version.approvals.values(), *(record.approvals for record in promotions)]
        return approvals_of(version, proof, self.registry.keys.public(), texts)

    def records(self) -> Records:
        """Return what was signed; nothing on a machine where nobody signs.

        Raises:
            JournalError: The journal is not valid.
        """
        if self.signed is not None:
            return self.signed
        return Journal(self.registry.model, self.registry.id, self.registry.keys.public().promotion).read()
