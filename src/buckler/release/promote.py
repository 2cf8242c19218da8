"""Moves the alias ``champion``: to a version with a passing, signed verdict, or back to a former champion.

Which version is champion, and which ones were before, follows from the signer's journal (`buckler.release.signing`);
the alias shows it to others. Releases are downloaded and verified before the lock is taken, so that a withdrawal need
not wait for them; what is signed is decided under the lock. One promotion signs at a time on a machine; of two
machines, the later one detects that the champion is no longer the one it compared with.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from buckler.errors import BucklerError, PromotionRefusedError, RegistryError
from buckler.release import bundle, gate, signing
from buckler.release.assess import Assessor, Flaws, no_flaws
from buckler.release.champions import ChampionsEvidence, champions_evidence, release_of
from buckler.release.evidence import read_evidence
from buckler.release.signing import Signer
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.serving.assessment import Assessment, OpenedRelease
from buckler.serving.registry import REGISTRY_ENV
from buckler.serving.version import Version
from buckler.trust.promotion import PromotionRecord
from buckler.trust.verdict import EVIDENCE_DIR, Verdict

ATTEMPTS = 3  # while somebody else promotes
WITHOUT = "buckler promote --without-comparison"
SHARED_KEY = (
    "this promotion is signed with the key that signs verdicts: whoever has the gate's key can promote, too; give"
    " promotions a key of their own (docs/how-to/keys.md)"
)

log = logging.getLogger(__name__)


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


def promote(
    registry: WritableRegistry,
    *,
    number: str | None = None,
    without_comparison: bool = False,
    flaws: Flaws = no_flaws,
    now: datetime | None = None,
) -> Move:
    """Make a version the champion if nothing speaks against it and it is not significantly worse than the champion.

    Args:
        registry: Its promotion key signs.
        number: Number of the version; default: the challenger.
        without_comparison: Whether to promote although the champion's evidence is not available, by a person's
            decision. If it is available, the two are compared all the same.
        flaws: Finds more reasons against its release, as `buckler.serving.loadable.flaws`, which loads it.
        now: Aware time; default: the current time.

    Raises:
        PromotionRefusedError: The version may not be promoted; lists every reason.
        JournalError: The journal is not valid, or behind what was signed.
        RegistryError: No such version, or the registry cannot be reached.
    """
    before = _State.of(registry)
    bound = registry.signing()
    candidate = bound.named(CHALLENGER) if number is None else bound.version(number)
    with _assessor(bound, now).opened(candidate, promoted=False) as (release, assessment):
        _require_promotable(assessment.also(flaws(release)))
        for _attempt in range(ATTEMPTS):
            other = champions_evidence(bound, before.champion)
            with signing.signing(registry, now) as signer:
                mover = _Mover(signer)
                if mover.state.champion == before.champion:
                    return mover.promote(candidate, release, other, without_comparison=without_comparison)
                before = mover.state
    raise _changed(candidate.model, before)


def rollback(registry: WritableRegistry, *, now: datetime | None = None) -> Move:
    """Make the latest former champion against which nothing speaks the champion again.

    If the alias names another version than the last promotion, the promoted version is the first choice. A verified
    copy on this machine is as good as a download.

    Raises:
        JournalError: The journal is not valid, or behind what was signed.
        RegistryError: There is no champion, no such former one, or the registry cannot be reached.
    """
    before = _State.of(registry)
    for _attempt in range(ATTEMPTS):
        with _returnable(registry.signing(), before, now) as choice, signing.signing(registry, now) as signer:
            mover = _Mover(signer)
            if mover.state == before and (move := mover.return_to(choice)):
                return move
            before = mover.state
    raise _changed(registry.model, before)


@dataclass(frozen=True, slots=True)
class _State:
    """What a decision rests on, and is compared with when it is signed.

    Attributes:
        history: The former champions and the champion, from the journal.
        alias: The version with the alias; None without one.
    """

    history: tuple[PromotionRecord, ...]
    alias: str | None

    @classmethod
    def of(cls, registry: WritableRegistry) -> "_State":
        """Return the state now; raises as `signing.signing`."""
        with signing.signing(registry) as signer:
            return cls.seen_by(signer)

    @classmethod
    def seen_by(cls, signer: Signer) -> "_State":
        alias = signer.registry.by_alias(CHAMPION)
        return cls(signer.records.history, alias.version if alias else None)

    @property
    def champion(self) -> PromotionRecord | None:
        return self.history[-1] if self.history else None

    @property
    def by_hand(self) -> bool:
        return self.champion is not None and self.alias not in (None, self.champion.version)

    @property
    def former(self) -> list[PromotionRecord]:
        """The former champions, latest first; without the alias the champion itself is a former one."""
        left = self.champion is not None and self.alias == self.champion.version
        return list(reversed(self.history[:-1] if left else self.history))


def _changed(model: str, now: _State) -> RegistryError:
    current = f"version {now.champion.version}" if now.champion else "none"
    return RegistryError(f"the champion of {model} changed meanwhile, to {current}; check it and try again")


# --- what is downloaded, before the lock


@dataclass(frozen=True, slots=True)
class _Choice:
    """A former champion to return to, with its release, and why later ones were passed over."""

    record: PromotionRecord
    version: Version
    release: OpenedRelease
    skipped: tuple[str, ...]


@contextmanager
def _returnable(registry: WritableRegistry, state: _State, now: datetime | None) -> Iterator[_Choice]:
    """Yield the latest former champion against which nothing speaks; each is judged for itself.

    Raises:
        RegistryError: There is no champion, or no such former one.
    """
    champion, model = state.champion, registry.model
    if champion is None:
        raise RegistryError(f"{model} has no champion to roll back from; run `buckler promote` first")
    skipped = [f"version {state.alias} was not promoted: the alias was moved by hand"] if state.by_hand else []
    for record in state.former:
        with ExitStack() as stack:
            try:
                version = registry.version(record.version)
                release = stack.enter_context(release_of(registry, version, record))
                _require_nothing_against(_assessor(registry, now), version, record, release)
            except BucklerError as error:
                skipped.append(f"version {record.version}: {error}")
                continue
            yield _Choice(record, version, release, tuple(skipped))
            return
    why = "; ".join(skipped) or "it is the first"
    raise RegistryError(f"{model} has no champion before version {champion.version} to roll back to: {why}")


def _assessor(registry: WritableRegistry, now: datetime | None) -> Assessor:
    return Assessor(registry) if now is None else Assessor(registry, now)


def _require_nothing_against(
    assessor: Assessor, version: Version, record: PromotionRecord, release: OpenedRelease
) -> Verdict:
    """Return the verdict of a former champion.

    Raises:
        BucklerError: Something speaks against it, its number names another release now, or approvals are missing that
            are needed today.
    """
    verdict = release.require()
    record.check(verdict)
    if reasons := assessor.of(version, release, promoted=False).reasons:
        raise BucklerError("; ".join(map(str, reasons)))
    approvals = assessor.approvals(version, verdict)
    if not approvals.enough:
        raise BucklerError(approvals.sentence(version.version))
    return verdict


def _require_promotable(assessment: Assessment) -> Verdict:
    """Return the verdict of a candidate.

    Raises:
        PromotionRefusedError: Something speaks against it; lists every reason.
        RegistryError: Its release could not be downloaded.
    """
    if assessment.not_told:
        raise RegistryError(f"{assessment.version}: {'; '.join(assessment.sentences)}")
    if assessment.reasons or assessment.verdict is None:
        raise PromotionRefusedError(f"{assessment.version} is not promoted", assessment.sentences)
    return assessment.verdict


# --- what is decided and signed, under the lock


class _Mover:
    """Moves the alias of one model, away from the version that it finds at its start."""

    def __init__(self, signer: Signer) -> None:
        self._signer, self._registry = signer, signer.registry
        self._assessor = Assessor(signer.registry, signer.moment, signer.records)
        self.state = _State.seen_by(signer)

    def promote(
        self, candidate: Version, release: OpenedRelease, other: ChampionsEvidence, *, without_comparison: bool
    ) -> Move:
        """Promote a candidate whose release was verified."""
        version = self._signer.unchanged(candidate)
        verdict = self._check_promotable(version, release, other, without_comparison=without_comparison)
        self._move(version, verdict)
        keys = self._registry.keys
        shared = keys.public().verdict.contain(keys.private().public_key())
        notes = [*other.notes, *([other.missing] if other.missing else []), *([SHARED_KEY] if shared else [])]
        return Move(self._registry.model, version.version, self.state.alias, tuple(notes))

    def return_to(self, choice: _Choice) -> Move | None:
        """Return to a former champion; None if something speaks against it now."""
        try:
            version = self._signer.unchanged(choice.version)
            verdict = _require_nothing_against(self._assessor, version, choice.record, choice.release)
        except BucklerError:
            return None
        self._move(version, verdict, rolled_back=True)
        return Move(self._registry.model, version.version, self.state.alias, choice.skipped)

    def _check_promotable(
        self, candidate: Version, release: OpenedRelease, other: ChampionsEvidence, *, without_comparison: bool
    ) -> Verdict:
        """Return the verdict.

        Raises:
            PromotionRefusedError: The version may not be promoted; lists every reason.
        """
        refusal = f"{candidate} is not promoted"
        verdict = _require_promotable(self._assessor.of(candidate, release, promoted=False))
        self._require_registry(candidate, verdict, refusal)
        if other.missing and not without_comparison:
            what_to_do = f"restore its files, or decide to promote without a comparison: `{WITHOUT}`"
            raise PromotionRefusedError(refusal, (other.missing, what_to_do))
        if other.missing:
            log.warning("%s: %s", candidate, other.missing)
        # Decided again: the gate did not compare with a champion, and deciding costs nothing.
        evidence = read_evidence(release.files / EVIDENCE_DIR)
        decision = gate.decide(evidence, other.evidence, bundle.policy_of(verdict))
        if not decision.passed:
            raise PromotionRefusedError(refusal, decision.failures)
        approvals = self._assessor.approvals(candidate, verdict)
        if not approvals.enough:
            raise PromotionRefusedError(refusal, [approvals.sentence(candidate.version)])
        return verdict

    def _require_registry(self, candidate: Version, verdict: Verdict, refusal: str) -> None:
        """Check that the registry has what was signed, unless the promotion of the champion itself repairs it."""
        champion = self.state.champion
        if champion is None:
            return
        if (candidate.version, verdict.subject_digest, verdict.id) == (
            champion.version,
            champion.digest,
            champion.verdict,
        ):
            return
        if lost := signing.lost(self._signer.records, self._registry):
            known = {(entry.version, entry.verdict) for entry in self._registry.versions()}
            what_to_do = (
                f"find who writes to the registry; `buckler promote --version {champion.version}` or `buckler rollback`"
                " writes it again"
                if (champion.version, champion.verdict) in known
                else f"restore the registry from a backup; if it is a new one, give it an id of its own in"
                f" {REGISTRY_ENV}, here and for service, watch and console"
            )
            raise PromotionRefusedError(refusal, (*lost, what_to_do))

    def _move(self, to: Version, verdict: Verdict, *, rolled_back: bool = False) -> None:
        """Sign the promotion with its approvals, and point the alias to ``to``.

        Raises:
            RegistryError: Another machine moved the alias in the meantime.
        """
        found = self._registry.by_alias(CHAMPION)
        if (found and found.version) != self.state.alias:
            current = f"version {found.version}" if found else "none"
            raise RegistryError(f"the champion of {to.model} changed meanwhile, to {current}; check it and try again")
        approvals = self._assessor.approvals(to, verdict).text
        self._signer.promote(to, verdict, rolled_back=rolled_back, approvals=approvals)
