"""Champion and challenger as the registry names them, with what their verified releases say; and moving between them.

A release is fetched and verified once for each thing the registry says of it; what depends on the time, the expiry, is
looked at anew each time. Promotion believes nothing of this: it fetches, verifies and decides by itself.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buckler.errors import BucklerError, RegistryError, VerdictError
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.trust import keys
from buckler.trust.verdict import EVIDENCE_DIR, Verdict, open_release
from services.console.settings import Settings

if TYPE_CHECKING:  # they load MLflow and pandas, seconds that the first page need not wait for
    from buckler.release.evidence import Evidence
    from buckler.release.promote import Move
    from buckler.serving.registry import Version
    from buckler.trust.standing import Standing


@dataclass(frozen=True, slots=True)
class Opened:
    """What a verified release holds; ``problem`` says why it is not believed."""

    verdict: Verdict | None
    evidence: "Evidence | None" = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """The version that bears one alias.

    Attributes:
        stands: What the watch has put down beside it since its verdict; None where that, or the verdict, does not hold.
        said: The signed statement; empty where there is none that holds.
        problems: Why it may not serve, or not as if nothing were wrong; nothing means that it may.
    """

    alias: str
    version: "Version"
    opened: Opened
    stands: "Standing | None"
    problems: tuple[str, ...]

    @property
    def verdict(self) -> Verdict | None:
        """Return its verdict, if that is authentic."""
        return self.opened.verdict

    @property
    def said(self) -> Mapping[str, Any]:
        """Return what the verdict states."""
        return self.verdict.statement if self.verdict else {}

    @property
    def renewed(self) -> bool:
        """Return whether its verdict holds longer than it said, because it has passed again since."""
        return bool(self.stands and self.verdict and self.stands.expires_at != self.verdict.expires_at)

    @property
    def rates(self) -> dict[int, Mapping[str, float]]:
        """Return worst-case robust accuracy by radius in 1/255; at 0 the clean accuracy."""
        rates = {int(row["epsilon_255"]): row["robust_accuracy"] for row in self.said.get("worst_case", ())}
        clean = self.said.get("clean_accuracy")
        return ({0: clean} if clean else {}) | dict(sorted(rates.items()))


@dataclass(frozen=True, slots=True)
class Overview:
    """Both sides; ``refusals`` are what a promotion of the challenger would be refused for now."""

    champion: Side | None
    challenger: Side | None
    refusals: tuple[str, ...] = ()
    can_go_back: bool = False

    @property
    def sides(self) -> tuple[Side, ...]:
        """Return those there are."""
        return tuple(side for side in (self.champion, self.challenger) if side)

    @property
    def same(self) -> bool:
        """Return whether the challenger is the champion already."""
        return bool(
            self.champion and self.challenger and self.champion.version.version == self.challenger.version.version
        )


class Registry:
    """The registry, for one model name."""

    def __init__(self, settings: Settings) -> None:
        self._name = settings.model_name
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, str], Opened] = {}

    def overview(self) -> Overview:
        """Return what bears the two aliases now.

        Raises:
            RegistryError: It cannot be asked.
            BucklerError: There is no key to check signatures with.
        """
        from buckler.serving import registry

        with self._lock:  # one download at a time
            champion, challenger = self._side(CHAMPION), self._side(CHALLENGER)
            former = [entry for entry in registry.versions(self._name) if entry.promoted_at]
        can_go_back = champion is not None and any(_earlier(entry, champion.version) for entry in former)
        return Overview(champion, challenger, _refusals(challenger, champion), can_go_back)

    def promote(self, number: str) -> "Move":
        """Promote a version as `buckler promote --version` does.

        Raises:
            PromotionRefusedError: With every reason.
            BucklerError: There is no key to sign with, or the registry cannot be asked.
        """
        from buckler.release.promote import promote as promote_release

        return promote_release(self._name, keys.load_private_key(), number=number)

    def rollback(self) -> "Move":
        """Go back as `buckler rollback` does.

        Raises:
            RegistryError: There is nothing to go back to, or the registry cannot be asked.
            BucklerError: There is no key to sign with.
        """
        from buckler.release.promote import rollback as rollback_release

        return rollback_release(self._name, keys.load_private_key())

    def _side(self, alias: str) -> Side | None:
        from buckler.serving import registry

        version = registry.by_alias(self._name, alias)
        if version is None:
            return None
        key = keys.load_public_key()
        about = (version.version, version.digest, version.verdict)
        if about not in self._known:
            opened = self._open(version.version, key)
            self._known = {**dict(list(self._known.items())[-3:]), about: opened}
        return _judged(alias, version, self._known[about], key, self._name)

    def _open(self, number: str, key: Any) -> Opened:
        from buckler.release import bundle
        from buckler.serving import registry

        with registry.downloaded(self._name, number) as path:
            try:
                verdict = open_release(path, key, name=self._name)
            except VerdictError as error:
                return Opened(None, problem=str(error).replace(str(path), "the release"))
            try:
                return Opened(verdict, bundle.read_evidence(path / EVIDENCE_DIR).evidence)
            except BucklerError as error:
                return Opened(verdict, problem=str(error).replace(str(path), "the release"))


def _judged(alias: str, version: "Version", opened: Opened, key: Any, name: str) -> Side:
    from buckler.release.assess import Assessor

    assessor = Assessor(name, key)
    problems = [opened.problem] if opened.problem else []
    verdict, stands = opened.verdict, None
    if verdict is not None:
        if not verdict.passed:
            problems += map(str, verdict.statement.get("reasons", ()))
        with _told(problems):
            stands = assessor.standing_of(version, verdict)
            if datetime.now(UTC) >= stands.expires_at:
                problems.append(f"its verdict expired at {stands.expires_at:%Y-%m-%d %H:%M} UTC; run the gate again")
            stands.check_unclaimed()
        if alias == CHAMPION:
            with _told(problems):
                assessor.promotion_of(version).check(verdict)
    return Side(alias, version, opened, stands, tuple(problems))


@contextmanager
def _told(problems: list[str]) -> Iterator[None]:
    """Add what does not hold to ``problems`` and go on: a person wants every reason, not the first."""
    try:
        yield
    except VerdictError as error:
        problems.append(str(error))


def _refusals(challenger: Side | None, champion: Side | None) -> tuple[str, ...]:
    """Return what promotion would say now, by the same rule on the same evidence."""
    from buckler.release import bundle, gate

    if challenger is None or challenger.problems or challenger.verdict is None or challenger.opened.evidence is None:
        return challenger.problems if challenger else ()
    other = champion.opened.evidence if champion else None
    return gate.decide(challenger.opened.evidence, other, bundle.policy_of(challenger.verdict)).failures


def _earlier(entry: "Version", champion: "Version") -> bool:
    return entry.version != champion.version and (not champion.promoted_at or entry.promoted_at < champion.promoted_at)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the registry's libraries raise of their own into a RegistryError: a panel says so and the rest goes on.

    Raises:
        RegistryError: Something unforeseen.
    """
    try:
        yield
    except BucklerError:
        raise
    except Exception as error:
        raise RegistryError(f"the registry cannot be read: {type(error).__name__}: {error}") from error
