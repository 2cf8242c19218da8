"""Champion and challenger of the registry with their verified releases, promotion and roll-back.

A release is downloaded and verified once per entry of the registry; whether its verdict has expired is checked at every
call. A promotion relies on none of this: it downloads, verifies and decides again.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buckler.errors import BucklerError, RegistryError, VerdictError
from buckler.measurements.results import Rate
from buckler.measurements.stated import Measured
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.trust import keys
from buckler.trust.verdict import EVIDENCE_DIR, Verdict, open_release
from services.console.settings import Settings

if TYPE_CHECKING:  # MLflow and pandas take seconds to load, and the first page needs neither
    from buckler.release.evidence import Evidence
    from buckler.release.promote import Move
    from buckler.serving.registry import Version
    from buckler.trust.standing import Standing

KEPT_RELEASES = 4  # champion and challenger, and their predecessors


@dataclass(frozen=True, slots=True)
class OpenedRelease:
    """The verdict and evidence of a release; ``problem`` says why one of them is not valid."""

    verdict: Verdict | None
    evidence: "Evidence | None" = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class AliasedVersion:
    """The version that an alias names.

    Attributes:
        alias: ``champion`` or ``challenger``.
        version: Its entry in the registry.
        release: Its opened release.
        standing: Its standing in the registry; None if the verdict or the standing is not valid.
        problems: Why it may not serve, or only with every answer reviewed; empty if it may serve.
    """

    alias: str
    version: "Version"
    release: OpenedRelease
    standing: "Standing | None"
    problems: tuple[str, ...]

    @property
    def verdict(self) -> Verdict | None:
        """The verdict, if it is authentic."""
        return self.release.verdict

    @property
    def renewed(self) -> bool:
        """Whether the verdict is valid for longer than it states, because the version has passed again."""
        return bool(self.standing and self.verdict and self.standing.expires_at != self.verdict.expires_at)

    @property
    def measured(self) -> Measured:
        """The measurements that the verdict states; nothing without an authentic verdict."""
        return Measured.read(self.verdict.measured if self.verdict else {})

    @property
    def rates(self) -> dict[int, Rate]:
        """Worst-case robust accuracy by radius in 1/255; clean accuracy at 0."""
        measured = self.measured
        rates = {row.epsilon_255: row.robust_accuracy for row in measured.worst_case}
        return ({0: measured.clean_accuracy} if measured.clean_accuracy else {}) | dict(sorted(rates.items()))


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
        self._opened: dict[tuple[str, str, str], OpenedRelease] = {}

    def overview(self) -> Overview:
        """Return champion and challenger.

        Raises:
            RegistryError: The registry cannot be reached.
            BucklerError: There is no key to check signatures with.
        """
        from buckler.serving import registry

        with self._lock:  # one download at a time
            champion, challenger = self._version(CHAMPION), self._version(CHALLENGER)
            promoted = [entry for entry in registry.versions(self._name) if entry.promoted_at]
        can_roll_back = champion is not None and any(_is_earlier(entry, champion.version) for entry in promoted)
        return Overview(champion, challenger, _refusals(challenger, champion), can_roll_back)

    def promote(self, number: str) -> "Move":
        """Promote a version as `buckler promote --version` does.

        Raises:
            PromotionRefusedError: With every reason.
            BucklerError: There is no key to sign with, or the registry cannot be reached.
        """
        from buckler.release.promote import promote as promote_release

        return promote_release(self._name, keys.load_private_key(), number=number)

    def rollback(self) -> "Move":
        """Roll back as `buckler rollback` does.

        Raises:
            RegistryError: There is no earlier champion that is valid, or the registry cannot be reached.
            BucklerError: There is no key to sign with.
        """
        from buckler.release.promote import rollback as rollback_release

        return rollback_release(self._name, keys.load_private_key())

    def _version(self, alias: str) -> AliasedVersion | None:
        from buckler.serving import registry

        version = registry.by_alias(self._name, alias)
        if version is None:
            return None
        key = keys.load_public_key()
        entry = (version.version, version.digest, version.verdict)
        if entry not in self._opened:
            release = self._open(version.version, key)
            kept = list(self._opened.items())[1 - KEPT_RELEASES :]
            self._opened = {**dict(kept), entry: release}
        return _checked(alias, version, self._opened[entry], key, self._name)

    def _open(self, number: str, key: Any) -> OpenedRelease:
        from buckler.release import bundle
        from buckler.serving import registry

        with registry.downloaded(self._name, number) as path:
            try:
                verdict = open_release(path, key, name=self._name)
            except VerdictError as error:
                return OpenedRelease(None, problem=str(error).replace(str(path), "the release"))
            try:
                return OpenedRelease(verdict, bundle.read_evidence(path / EVIDENCE_DIR).evidence)
            except BucklerError as error:
                return OpenedRelease(verdict, problem=str(error).replace(str(path), "the release"))


def _checked(alias: str, version: "Version", release: OpenedRelease, key: Any, name: str) -> AliasedVersion:
    from buckler.release.assess import Assessor

    assessor = Assessor(name, key)
    problems = [release.problem] if release.problem else []
    verdict, standing = release.verdict, None
    if verdict is not None:
        if not verdict.passed:
            problems += verdict.reasons
        with _collected(problems):
            standing = assessor.standing_of(version, verdict)
            if datetime.now(UTC) >= standing.expires_at:
                problems.append(f"its verdict expired at {standing.expires_at:%Y-%m-%d %H:%M} UTC; run the gate again")
            standing.check_unclaimed()
        if alias == CHAMPION:
            with _collected(problems):
                assessor.promotion_of(version).check(verdict)
    return AliasedVersion(alias, version, release, standing, tuple(problems))


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    """Append a `VerdictError` to ``problems`` instead of raising it, so that the page shows every problem."""
    try:
        yield
    except VerdictError as error:
        problems.append(str(error))


def _refusals(challenger: AliasedVersion | None, champion: AliasedVersion | None) -> tuple[str, ...]:
    """Return why a promotion would be refused, by the same rule on the same evidence."""
    from buckler.release import bundle, gate

    if challenger is None:
        return ()
    if challenger.problems or challenger.verdict is None or challenger.release.evidence is None:
        return challenger.problems
    live_evidence = champion.release.evidence if champion else None
    return gate.decide(challenger.release.evidence, live_evidence, bundle.policy_of(challenger.verdict)).failures


def _is_earlier(entry: "Version", champion: "Version") -> bool:
    return entry.version != champion.version and (not champion.promoted_at or entry.promoted_at < champion.promoted_at)


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
