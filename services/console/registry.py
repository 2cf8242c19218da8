"""Champion and challenger of the registry with their verified releases, promotion and roll-back.

A release is downloaded and verified once per entry of the registry; whether the version may serve is assessed at every
call. A promotion relies on none of this: it downloads, verifies and decides again.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from buckler.errors import BucklerError, RegistryError, VerdictError
from buckler.measurements.results import Rate
from buckler.measurements.stated import Measured
from buckler.radius import NO_ATTACK, StatedRadius
from buckler.serving import clocks
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.trust.verdict import EVIDENCE_DIR, Verdict
from services.console.settings import Settings

if TYPE_CHECKING:  # MLflow and pandas take seconds to load, and the first page needs neither
    from buckler.release.assess import Assessor
    from buckler.release.evidence import Evidence
    from buckler.release.promote import Move
    from buckler.release.tracking import WritableRegistry
    from buckler.serving.assessment import Assessment, OpenedRelease
    from buckler.serving.version import Version
    from buckler.trust.approval import Approvals
    from buckler.trust.standing import Standing

KEPT_RELEASES = 4  # champion and challenger, and their predecessors


@dataclass(frozen=True, slots=True)
class ReadRelease:
    """A release that was downloaded before, and its evidence; ``problem`` says why the evidence is not valid."""

    release: "OpenedRelease"
    evidence: "Evidence | None" = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class AliasedVersion:
    """The version that an alias names.

    Attributes:
        alias: ``champion`` or ``challenger``.
        assessment: Whether it may serve; the challenger, whether it may be promoted.
        evidence: Evidence of its verdict; None if it is not valid.
        problems: Everything that speaks against it; empty if it may serve without review.
        approvals: Who has approved its promotion; None without an authentic verdict.
    """

    alias: str
    assessment: "Assessment"
    evidence: "Evidence | None"
    problems: tuple[str, ...]
    approvals: "Approvals | None"

    @property
    def version(self) -> "Version":
        """Its entry in the registry."""
        return self.assessment.version

    @property
    def verdict(self) -> Verdict | None:
        """The verdict, if it is authentic."""
        return self.assessment.verdict

    @property
    def standing(self) -> "Standing | None":
        """Its standing; None without an authentic verdict."""
        return self.assessment.standing

    @property
    def from_future(self) -> tuple[str, ...]:
        """What of it was signed by a clock that was ahead, one sentence each."""
        return clocks.from_future(self.assessment, datetime.now(UTC))

    @property
    def renewed(self) -> bool:
        """Whether the verdict is valid for longer than it states, because the version has passed again."""
        return bool(self.standing and self.verdict and self.standing.expires_at != self.verdict.expires_at)

    @property
    def measured(self) -> Measured:
        """The measurements that the verdict states; nothing without an authentic verdict."""
        return Measured.read(self.verdict.measured if self.verdict else {})

    @property
    def rates(self) -> dict[StatedRadius, Rate]:
        """Worst-case robust accuracy by radius; clean accuracy at `NO_ATTACK`."""
        measured = self.measured
        rates = {row.radius: row.robust_accuracy for row in measured.worst_case}
        return ({NO_ATTACK: measured.clean_accuracy} if measured.clean_accuracy else {}) | dict(sorted(rates.items()))


@dataclass(frozen=True, slots=True)
class Overview:
    """Champion and challenger.

    Attributes:
        champion, challenger: The versions that the aliases name; None for an alias that is not set.
        refusals: Why a promotion of the challenger would be refused now.
        can_roll_back: Whether an earlier champion exists.
    """

    champion: AliasedVersion | None
    challenger: AliasedVersion | None
    refusals: tuple[str, ...] = ()
    can_roll_back: bool = False

    @property
    def versions(self) -> tuple[AliasedVersion, ...]:
        """Champion and challenger, as far as they exist."""
        return tuple(version for version in (self.champion, self.challenger) if version)

    @property
    def same(self) -> bool:
        """Whether both aliases name the same version."""
        return bool(
            self.champion and self.challenger and self.champion.version.version == self.challenger.version.version
        )


class ConsoleRegistry:
    """The registry's entries for one model name."""

    def __init__(self, settings: Settings) -> None:
        self._name = settings.model_name
        self._lock = threading.Lock()
        self._read: dict[tuple[str, str, str], ReadRelease] = {}

    def overview(self) -> Overview:
        """Return champion and challenger.

        Raises:
            RegistryError: The registry cannot be reached.
            BucklerError: There is no key to check signatures with.
        """
        with registry_errors():
            registry = self._registry()
            with self._lock:  # one download at a time
                champion, challenger = self._version(registry, CHAMPION), self._version(registry, CHALLENGER)
            can_roll_back = champion is not None and _can_roll_back(registry, champion.version)
            return Overview(champion, challenger, _refusals(challenger, champion), can_roll_back)

    def promote(self, number: str) -> "Move":
        """Promote a version as `buckler promote --version` does.

        Raises:
            PromotionRefusedError: With every reason.
            BucklerError: There is no key to sign with, or the registry cannot be reached.
        """
        from buckler.release.promote import promote as promote_release

        return promote_release(self._registry(), number=number)

    def rollback(self) -> "Move":
        """Roll back as `buckler rollback` does.

        Raises:
            RegistryError: There is no earlier champion that is valid, or the registry cannot be reached.
            BucklerError: There is no key to sign with.
        """
        from buckler.release.promote import rollback as rollback_release

        return rollback_release(self._registry())

    def _registry(self) -> "WritableRegistry":
        from buckler.release.tracking import WritableRegistry

        return WritableRegistry(self._name)

    def _version(self, registry: "WritableRegistry", alias: str) -> AliasedVersion | None:
        from buckler.release.assess import Assessor

        version = registry.by_alias(alias)
        if version is None:
            return None
        assessor = Assessor(registry)
        read = self._downloaded(assessor, version)
        assessment = assessor.of(version, read.release, promoted=alias == CHAMPION)
        problems = (*assessment.sentences, *([read.problem] if read.problem else []))
        approvals = None
        if assessment.verdict is not None:
            try:
                approvals = assessor.approvals(version, assessment.verdict)
            except VerdictError as error:
                problems = (*problems, str(error))
        return AliasedVersion(alias, assessment, read.evidence, problems, approvals)

    def _downloaded(self, assessor: "Assessor", version: "Version") -> ReadRelease:
        entry = (version.version, version.digest, version.verdict)
        if entry in self._read:
            return self._read[entry]
        with assessor.opened(version) as (release, _):
            read = _read(release)
        if release.downloaded:  # else it may be next time
            kept = list(self._read.items())[1 - KEPT_RELEASES :]
            self._read = {**dict(kept), entry: read}
        return read


def _read(release: "OpenedRelease") -> ReadRelease:
    from buckler.release.evidence import read_evidence

    if not release.authentic:
        return ReadRelease(release)
    try:
        return ReadRelease(release, read_evidence(release.files / EVIDENCE_DIR))
    except BucklerError as error:
        return ReadRelease(release, problem=str(error).replace(str(release.path), "the release"))


def _refusals(challenger: AliasedVersion | None, champion: AliasedVersion | None) -> tuple[str, ...]:
    """Return why a promotion would be refused, by the same rule on the same evidence."""
    from buckler.release import bundle, gate

    if challenger is None:
        return ()
    if challenger.problems or challenger.verdict is None or challenger.evidence is None:
        return challenger.problems
    live_evidence = champion.evidence if champion else None
    failures = gate.decide(challenger.evidence, live_evidence, bundle.policy_of(challenger.verdict)).failures
    approvals = challenger.approvals
    if approvals is None or approvals.enough:
        return failures
    return (*failures, approvals.sentence(challenger.version.version))


def _can_roll_back(registry: "WritableRegistry", champion: "Version") -> bool:
    """Return whether the signer's journal, which only the machine that signs has, knows another champion."""
    from buckler.release.assess import Assessor

    history = Assessor(registry).records().history
    return any(record.version != champion.version for record in history)


@contextmanager
def registry_errors() -> Iterator[None]:
    """Turn unexpected exceptions of the registry's libraries into a `RegistryError`, which one panel shows.

    Raises:
        RegistryError: An exception that is not a `BucklerError`.
    """
    try:
        yield
    except BucklerError:
        raise
    except Exception as error:
        raise RegistryError(f"the registry cannot be read: {type(error).__name__}: {error}") from error
