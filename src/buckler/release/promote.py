"""Moves the alias ``champion``: to a version with a passing, signed verdict, or back to a former champion.

An interrupted promotion leaves either the old champion or the new one: the record is written first, then the alias,
which alone decides, moves in one step. One promotion runs at a time on a machine; of two machines, the later one
detects that the champion is no longer the one it compared with.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from buckler.errors import DataError, PromotionRefusedError, RegistryError
from buckler.release import bundle, gate, tracking
from buckler.release.assess import Assessor
from buckler.release.evidence import Evidence, read_evidence
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.serving.assessment import RefusedError
from buckler.serving.registry import PROMOTED_TAG, PROMOTION_TAG, REPLACED_TAG
from buckler.serving.version import Version
from buckler.trust import promotion
from buckler.trust.verdict import EVIDENCE_DIR, Verdict


@dataclass(frozen=True, slots=True)
class Move:
    """The result of a promotion or roll-back.

    Attributes:
        model_name: Name in the registry.
        version: The new champion.
        previous: The champion before; None if there was none.
        notes: Remarks for the operator, for example that no comparison took place.
    """

    model_name: str
    version: str
    previous: str | None
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Return whether the alias moved."""
        return self.version != self.previous


def promote(registry: WritableRegistry, *, number: str | None = None, now: datetime | None = None) -> Move:
    """Make a version the champion if nothing speaks against it and it is not significantly worse than the champion.

    Args:
        registry: Its private key signs the promotion; the verdicts must be signed with the same key.
        number: Number of the version; default: the challenger.
        now: Aware time; default: the current time.

    Raises:
        PromotionRefusedError: The version may not be promoted; lists every reason.
        RegistryError: No such version, or the registry cannot be reached.
    """
    with tracking.one_writer():
        return _Mover(registry.signing(), now).promote(number)


def rollback(registry: WritableRegistry, *, now: datetime | None = None) -> Move:
    """Make the latest former champion against which nothing speaks the champion again.

    Raises:
        RegistryError: There is no champion, no such former one, or the registry cannot be reached.
    """
    with tracking.one_writer():
        return _Mover(registry.signing(), now).rollback()


class _Mover:
    """Moves the alias of one model, away from the champion that it finds at its start."""

    def __init__(self, registry: WritableRegistry, now: datetime | None) -> None:
        self._registry = registry
        self._assessor = Assessor(registry, now or datetime.now(UTC))
        self._champion = registry.by_alias(CHAMPION)

    def promote(self, number: str | None) -> Move:
        candidate = self._registry.named(CHALLENGER) if number is None else self._registry.version(number)
        verdict, notes = self._check_promotable(candidate)
        previous = self._champion.version if self._champion else None
        moment = self._moment()
        if previous != candidate.version:
            # The history first: if this process is killed in between, the old champion keeps serving.
            self._registry.tag(candidate.version, PROMOTED_TAG, moment.isoformat())
            self._move(candidate, verdict, moment)
        else:  # record it again: the alias may have been moved by hand, or the registry restored from a backup
            self._record(candidate, verdict, moment)
        return Move(self._registry.model, candidate.version, previous, notes)

    def rollback(self) -> Move:
        champion, model = self._champion, self._registry.model
        if champion is None:
            raise RegistryError(f"{model} has no champion to roll back from; run `buckler promote` first")
        skipped = []
        for earlier in self._earlier(champion):
            with self._assessor.opened(earlier, promoted=False) as (_, assessment):
                reasons, verdict = assessment.reasons, assessment.verdict
            if reasons or verdict is None:
                skipped.append(f"version {earlier.version}: {'; '.join(map(str, reasons))}")
                continue
            self._move(earlier, verdict, self._moment())
            return Move(model, earlier.version, champion.version, tuple(skipped))
        why = "; ".join(skipped) or "it is the first"
        raise RegistryError(f"{model} has no champion before version {champion.version} to roll back to: {why}")

    def _check_promotable(self, candidate: Version) -> tuple[Verdict, tuple[str, ...]]:
        """Return the verdict and notes for the operator.

        Raises:
            PromotionRefusedError: The version may not be promoted; lists every reason.
        """
        refusal = f"{candidate} is not promoted"
        with self._assessor.opened(candidate, promoted=False) as (release, assessment):
            verdict = assessment.verdict
            if assessment.reasons or verdict is None:
                raise PromotionRefusedError(refusal, assessment.sentences)
            evidence = read_evidence(release.files / EVIDENCE_DIR)
        other, notes = self._champions_evidence()
        # Decided again: the gate did not compare with a champion, and deciding costs nothing.
        decision = gate.decide(evidence, other, bundle.policy_of(verdict))
        if not decision.passed:
            raise PromotionRefusedError(refusal, decision.failures)
        return verdict, notes

    def _champions_evidence(self) -> tuple[Evidence | None, tuple[str, ...]]:
        """Return the evidence of the champion's verdict, expired or not, and notes; None without authentic evidence."""
        champion = self._champion
        if champion is None:
            return None, ("no champion yet: nothing to compare with",)
        try:
            with self._assessor.opened(champion) as (release, _):
                release.require()  # what speaks against an authentic release is that it cannot be loaded here
                notes = tuple(f"the champion, version {champion.version}: {reason}" for reason in release.reasons)
                return read_evidence(release.files / EVIDENCE_DIR), notes
        except (RefusedError, DataError) as error:
            # A champion without valid evidence must not block a candidate that has it.
            which = f"the champion, version {champion.version}"
            return None, (f"not compared with {which}, whose evidence is not valid: {error}",)

    def _earlier(self, champion: Version) -> list[Version]:
        """Return former champions promoted before ``champion``, latest first."""
        before = [
            version
            for version in self._registry.versions()
            if version.promoted_at
            and version.version != champion.version
            # A champion without a time of promotion was set by hand: every former champion counts as earlier.
            and (not champion.promoted_at or version.promoted_at < champion.promoted_at)
        ]
        return sorted(before, key=lambda version: version.promoted_at, reverse=True)

    def _moment(self) -> datetime:
        return self._assessor.moment_after(record.moment for record in self._assessor.promotions())

    def _move(self, to: Version, verdict: Verdict, moment: datetime) -> None:
        """Record the promotion, point the alias to ``to``, then note on the version before that it was replaced.

        Raises:
            RegistryError: Another machine moved the alias in the meantime.
        """
        self._record(to, verdict, moment)
        found = self._registry.by_alias(CHAMPION)
        if (found and found.version) != (self._champion and self._champion.version):
            current = f"version {found.version}" if found else "none"
            raise RegistryError(f"the champion of {to.model} changed meanwhile, to {current}; check it and try again")
        self._registry.set_alias(CHAMPION, to.version)
        if self._champion:  # its promotion is over: moving the alias back by hand does not renew it
            self._registry.tag(self._champion.version, REPLACED_TAG, moment.isoformat())

    def _record(self, version: Version, verdict: Verdict, moment: datetime) -> None:
        key = self._registry.keys.private()
        record = promotion.issue(key, model_name=version.model, version=version.version, verdict=verdict, moment=moment)
        self._registry.tag(version.version, PROMOTION_TAG, record)
