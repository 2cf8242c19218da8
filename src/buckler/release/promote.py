"""Moves the alias ``champion``: to a version with a passing, signed verdict, or back to a former champion.

Which version is champion, and which ones were before, follows from the signer's journal (`buckler.release.signing`);
the alias shows it to others. One promotion runs at a time on a machine; of two machines, the later one detects that the
champion is no longer the one it compared with.
"""

from dataclasses import dataclass
from datetime import datetime

from buckler.errors import BucklerError, DataError, PromotionRefusedError, RegistryError, VerdictError
from buckler.release import bundle, gate, signing
from buckler.release.assess import Assessor
from buckler.release.evidence import Evidence, read_evidence
from buckler.release.signing import Signer
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.serving.assessment import RefusedError
from buckler.serving.version import Version
from buckler.trust.promotion import PromotionRecord
from buckler.trust.verdict import EVIDENCE_DIR, Verdict

SHARED_KEY = (
    "this promotion is signed with the key that signs verdicts: whoever has the gate's key can promote, too; give"
    " promotions a key of their own (docs/how-to/keys.md)"
)


@dataclass(frozen=True, slots=True)
class Move:
    """The result of a promotion or roll-back.

    Attributes:
        model_name: Name in the registry.
        version: The new champion.
        previous: The version that had the alias before; None if there was none.
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
        registry: Its promotion key signs.
        number: Number of the version; default: the challenger.
        now: Aware time; default: the current time.

    Raises:
        PromotionRefusedError: The version may not be promoted; lists every reason.
        JournalError: The journal is not valid, or behind what was signed.
        RegistryError: No such version, or the registry cannot be reached.
    """
    with signing.signing(registry, now) as signer:
        return _Mover(signer).promote(number)


def rollback(registry: WritableRegistry, *, now: datetime | None = None) -> Move:
    """Make the latest former champion against which nothing speaks the champion again.

    If the alias names another version than the last promotion, the promoted version is the first choice.

    Raises:
        JournalError: The journal is not valid, or behind what was signed.
        RegistryError: There is no champion, no such former one, or the registry cannot be reached.
    """
    with signing.signing(registry, now) as signer:
        return _Mover(signer).rollback()


class _Mover:
    """Moves the alias of one model, away from the version that it finds at its start."""

    def __init__(self, signer: Signer) -> None:
        self._signer, self._registry = signer, signer.registry
        self._assessor = Assessor(signer.registry, signer.moment)
        self._champion = signer.records.champion
        alias = signer.registry.by_alias(CHAMPION)
        self._alias = alias.version if alias else None

    def promote(self, number: str | None) -> Move:
        candidate = self._registry.named(CHALLENGER) if number is None else self._registry.version(number)
        verdict, notes = self._check_promotable(candidate)
        self._move(candidate, verdict)
        keys = self._registry.keys
        shared = keys.public().verdict.contain(keys.private().public_key())
        return Move(self._registry.model, candidate.version, self._alias, (*notes, SHARED_KEY) if shared else notes)

    def rollback(self) -> Move:
        champion, model = self._champion, self._registry.model
        if champion is None:
            raise RegistryError(f"{model} has no champion to roll back from; run `buckler promote` first")
        skipped = [f"version {self._alias} was not promoted: the alias was moved by hand"] if self._by_hand else []
        for earlier in self._earlier():
            try:
                version, verdict = self._returnable(earlier)
            except BucklerError as error:  # each former champion is judged for itself
                skipped.append(f"version {earlier.version}: {error}")
                continue
            self._move(version, verdict, rolled_back=True)
            return Move(model, version.version, self._alias, tuple(skipped))
        why = "; ".join(skipped) or "it is the first"
        raise RegistryError(f"{model} has no champion before version {champion.version} to roll back to: {why}")

    @property
    def _by_hand(self) -> bool:
        return self._champion is not None and self._alias not in (None, self._champion.version)

    def _earlier(self) -> list[PromotionRecord]:
        """Return the former champions, latest first; without the alias the champion itself is a former one."""
        history = self._signer.records.history
        left = self._champion is not None and self._alias == self._champion.version
        return list(reversed(history[:-1] if left else history))

    def _returnable(self, record: PromotionRecord) -> tuple[Version, Verdict]:
        """Return a former champion and its verdict if nothing speaks against it.

        Raises:
            BucklerError: Something does, it is another release now, or the registry has lost it.
        """
        version = self._registry.version(record.version)
        with self._assessor.opened(version, promoted=False) as (release, assessment):
            verdict = release.require()
            record.check(verdict)
            if assessment.reasons:
                raise BucklerError("; ".join(assessment.sentences))
            return version, verdict

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
        self._require_registry(candidate, verdict, refusal)
        other, notes = self._champions_evidence()
        # Decided again: the gate did not compare with a champion, and deciding costs nothing.
        decision = gate.decide(evidence, other, bundle.policy_of(verdict))
        if not decision.passed:
            raise PromotionRefusedError(refusal, decision.failures)
        return verdict, notes

    def _require_registry(self, candidate: Version, verdict: Verdict, refusal: str) -> None:
        """Check that the registry has what was signed, unless the promotion of the champion itself repairs it."""
        champion = self._champion
        if champion is None:
            return
        if (candidate.version, verdict.subject_digest, verdict.id) == (
            champion.version,
            champion.digest,
            champion.verdict,
        ):
            return
        if lost := signing.lost(self._signer.records, self._registry):
            what_to_do = (
                f"find who writes to the registry; `buckler promote --version {champion.version}` or `buckler rollback`"
                " writes it again"
            )
            raise PromotionRefusedError(refusal, (*lost, what_to_do))

    def _champions_evidence(self) -> tuple[Evidence | None, tuple[str, ...]]:
        """Return the evidence of the champion's verdict, expired or not, and notes; None without authentic evidence."""
        champion = self._champion
        if champion is None:
            return None, ("no champion yet: nothing to compare with",)
        which = f"the champion, version {champion.version}"
        try:
            version = self._registry.version(champion.version)
            with self._assessor.opened(version) as (release, _):
                champion.check(release.require())  # authentic is enough, even if it cannot be loaded here
                notes = tuple(f"{which}: {reason}" for reason in release.reasons)
                return read_evidence(release.files / EVIDENCE_DIR), notes
        except (RefusedError, DataError, VerdictError) as error:
            # A champion without valid evidence must not block a candidate that has it.
            return None, (f"not compared with {which}, whose evidence is not valid: {error}",)

    def _move(self, to: Version, verdict: Verdict, *, rolled_back: bool = False) -> None:
        """Sign the promotion and point the alias to ``to``.

        Raises:
            RegistryError: Another machine moved the alias in the meantime.
        """
        found = self._registry.by_alias(CHAMPION)
        if (found and found.version) != self._alias:
            current = f"version {found.version}" if found else "none"
            raise RegistryError(f"the champion of {to.model} changed meanwhile, to {current}; check it and try again")
        self._signer.promote(to, verdict, rolled_back=rolled_back)
