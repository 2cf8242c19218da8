"""Moves the alias ``champion``: to a version with a passing, signed verdict, or back to a former champion.

An interrupted promotion leaves either the old champion or the new one: the record is written first, then the alias,
which alone decides, moves in one step. One promotion runs at a time on a machine; of two machines, the later one
detects that the champion is no longer the one it compared with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import DataError, PromotionRefusedError, RegistryError, VerdictError
from buckler.release import bundle, gate, tracking
from buckler.release.assess import Assessor
from buckler.release.evidence import Evidence
from buckler.serving import registry
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.serving.registry import Version
from buckler.trust import promotion
from buckler.trust.verdict import EVIDENCE_DIR, Verdict, open_release


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


def promote(
    model_name: str,
    key: Ed25519PrivateKey,
    *,
    number: str | None = None,
    now: datetime | None = None,
) -> Move:
    """Make a version the champion if its verdict is valid and it is not significantly worse than the champion.

    Args:
        model_name: Name in the registry.
        key: Signs the promotion; the verdicts must be signed with the same key.
        number: Number of the version; default: the challenger.
        now: Aware time; default: the current time.

    Raises:
        PromotionRefusedError: The version may not be promoted; lists every reason.
        RegistryError: No such version, or the registry cannot be reached.
    """
    with tracking.one_writer():
        return _Mover(model_name, key, now).promote(number)


def rollback(model_name: str, key: Ed25519PrivateKey, *, now: datetime | None = None) -> Move:
    """Make the latest former champion whose verdict is still valid the champion again.

    Raises:
        RegistryError: There is no champion, no valid former one, or the registry cannot be reached.
    """
    with tracking.one_writer():
        return _Mover(model_name, key, now).rollback()


class _Mover:
    """Moves the alias of one model, away from the champion that it finds at its start."""

    def __init__(self, model_name: str, key: Ed25519PrivateKey, now: datetime | None) -> None:
        self._model_name, self._key = model_name, key
        self._assessor = Assessor(model_name, key.public_key(), now or datetime.now(UTC))
        self._champion = registry.by_alias(model_name, CHAMPION)

    def promote(self, number: str | None) -> Move:
        candidate = self._candidate(number)
        verdict, notes = self._check_promotable(candidate)
        previous = self._champion.version if self._champion else None
        moment = self._moment()
        if previous != candidate.version:
            # The history first: if this process is killed in between, the old champion keeps serving.
            self._tag(candidate.version, registry.PROMOTED_TAG, moment.isoformat())
            self._move(candidate.version, verdict, moment)
        else:  # record it again: the alias may have been moved by hand, or the registry restored from a backup
            self._record(candidate.version, verdict, moment)
        return Move(self._model_name, candidate.version, previous, notes)

    def rollback(self) -> Move:
        champion = self._champion
        if champion is None:
            raise RegistryError(f"{self._model_name} has no champion to roll back from; run `buckler promote` first")
        skipped = []
        for earlier in self._earlier(champion):
            try:
                with registry.downloaded(self._model_name, earlier.version) as release:
                    verdict = self._assessor.valid_verdict(release, earlier)
            except VerdictError as error:
                skipped.append(f"version {earlier.version}: {error}")
                continue
            moment = self._moment()
            self._tag(champion.version, registry.WITHDRAWN_TAG, moment.isoformat())
            self._move(earlier.version, verdict, moment)
            return Move(self._model_name, earlier.version, champion.version, tuple(skipped))
        why = "; ".join(skipped) or "it is the first"
        raise RegistryError(
            f"{self._model_name} has no champion before version {champion.version} to roll back to: {why}"
        )

    def _candidate(self, number: str | None) -> Version:
        if number is not None:
            return registry.version(self._model_name, number)
        challenger = registry.by_alias(self._model_name, CHALLENGER)
        if challenger is None:
            where = registry.shown_uri()
            raise RegistryError(f"{self._model_name} has no challenger in {where}; `dvc repro` publishes one")
        return challenger

    def _check_promotable(self, candidate: Version) -> tuple[Verdict, tuple[str, ...]]:
        """Return the verdict and notes for the operator.

        Raises:
            PromotionRefusedError: The version may not be promoted; lists every reason.
        """
        refusal = f"version {candidate.version} of {self._model_name} is not promoted"
        with registry.downloaded(self._model_name, candidate.version) as release:
            try:
                verdict = self._assessor.valid_verdict(release, candidate)
            except VerdictError as error:
                raise PromotionRefusedError(refusal, self._reasons(release, error)) from error
            evidence = bundle.read_evidence(release / EVIDENCE_DIR).evidence
        other, notes = self._champions_evidence()
        # Decided again: the gate did not compare with a champion, and deciding costs nothing.
        decision = gate.decide(evidence, other, bundle.policy_of(verdict))
        if not decision.passed:
            raise PromotionRefusedError(refusal, decision.failures)
        return verdict, notes

    def _reasons(self, release: Path, error: VerdictError) -> Sequence[str]:
        if error.reason != "failed":
            return [str(error)]
        return open_release(release, self._key.public_key()).reasons

    def _champions_evidence(self) -> tuple[Evidence | None, tuple[str, ...]]:
        """Return the evidence of the champion's verdict, expired or not, and notes; None without authentic evidence."""
        champion = self._champion
        if champion is None:
            return None, ("no champion yet: nothing to compare with",)
        try:
            with registry.downloaded(self._model_name, champion.version) as release:
                open_release(release, self._key.public_key())
                return bundle.read_evidence(release / EVIDENCE_DIR).evidence, ()
        except (VerdictError, DataError) as error:
            # A champion without valid evidence must not block a candidate that has it.
            which = f"the champion, version {champion.version}"
            return None, (f"not compared with {which}, whose evidence is not valid: {error}",)

    def _earlier(self, champion: Version) -> list[Version]:
        """Return former champions promoted before ``champion``, latest first."""
        before = [
            version
            for version in registry.versions(self._model_name)
            if version.promoted_at
            and version.version != champion.version
            # A champion without a time of promotion was set by hand: every former champion counts as earlier.
            and (not champion.promoted_at or version.promoted_at < champion.promoted_at)
        ]
        return sorted(before, key=lambda version: version.promoted_at, reverse=True)

    def _moment(self) -> datetime:
        return self._assessor.moment_after(record.moment for record in self._assessor.promotions())

    def _move(self, number: str, verdict: Verdict, moment: datetime) -> None:
        """Record the promotion, then point the alias to version ``number``.

        Raises:
            RegistryError: Another machine moved the alias in the meantime.
        """
        self._record(number, verdict, moment)
        found = registry.by_alias(self._model_name, CHAMPION)
        if (found and found.version) != (self._champion and self._champion.version):
            current = f"version {found.version}" if found else "none"
            raise RegistryError(
                f"the champion of {self._model_name} changed meanwhile, to {current}; check it and try again"
            )
        tracking.set_alias(self._model_name, CHAMPION, number)

    def _record(self, number: str, verdict: Verdict, moment: datetime) -> None:
        record = promotion.issue(self._key, model_name=self._model_name, version=number, verdict=verdict, moment=moment)
        self._tag(number, registry.PROMOTION_TAG, record)

    def _tag(self, number: str, tag: str, value: str) -> None:
        tracking.tag_version(self._model_name, number, tag, value)
