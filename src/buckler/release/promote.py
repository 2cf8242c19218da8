"""Moves the alias ``champion``: to a version with a passing, signed verdict, or back to a former champion.

An interrupted promotion leaves either the old champion or the new one: the record is written first, then the alias,
which alone decides, moves in one step. One promotion runs at a time on a machine; of two machines, the later one
detects that the champion is no longer the one it compared with.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.errors import DataError, PromotionRefusedError, RegistryError, VerdictError
from buckler.release import bundle, gate, tracking
from buckler.release.evidence import Evidence
from buckler.serving import registry
from buckler.serving.registry import Version
from buckler.state import locks, paths
from buckler.trust import promotion
from buckler.trust.standing import Claim, Standing, of_verdict
from buckler.trust.standing import issue as issue_standing
from buckler.trust.standing import read as read_standing
from buckler.trust.verdict import EVIDENCE_DIR, Verdict, check_holds, open_release

TICK = timedelta(microseconds=1)


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


@dataclass(frozen=True, slots=True)
class Serving:
    """The champion with its verdict and standing; ``problem`` says why it may not serve, None if it may."""

    version: Version
    verdict: Verdict | None
    problem: str | None
    standing: Standing | None = None


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
    with _one_at_a_time():
        candidate = _candidate(model_name, number)
        champion = registry.by_alias(model_name, registry.CHAMPION)
        verdict, notes = _check_promotable(model_name, candidate, champion, key.public_key(), now)
        previous = champion.version if champion else None
        moment = _moment(model_name, key.public_key(), now)
        if previous != candidate.version:
            # The history first: if this process is killed in between, the old champion keeps serving.
            tracking.tag_version(model_name, candidate.version, registry.PROMOTED_TAG, moment.isoformat())
            _move(model_name, candidate.version, champion, verdict, key, moment)
        else:  # record it again: the alias may have been moved by hand, or the registry restored from a backup
            _record_promotion(model_name, candidate.version, verdict, key, moment)
    return Move(model_name, candidate.version, previous, notes)


def rollback(model_name: str, key: Ed25519PrivateKey, *, now: datetime | None = None) -> Move:
    """Make the latest former champion whose verdict is still valid the champion again.

    Raises:
        RegistryError: There is no champion, no valid former one, or the registry cannot be reached.
    """
    with _one_at_a_time():
        return _rollback(model_name, key, now)


def _rollback(model_name: str, key: Ed25519PrivateKey, now: datetime | None) -> Move:
    champion = registry.by_alias(model_name, registry.CHAMPION)
    if champion is None:
        raise RegistryError(f"{model_name} has no champion to roll back from; run `buckler promote` first")
    skipped = []
    for earlier in _earlier(model_name, champion):
        try:
            with fetched(model_name, earlier.version) as path:
                verdict = _valid_verdict(path, model_name, earlier, key.public_key(), now)
        except VerdictError as error:
            skipped.append(f"version {earlier.version}: {error}")
            continue
        moment = _moment(model_name, key.public_key(), now)
        tracking.tag_version(model_name, champion.version, registry.WITHDRAWN_TAG, moment.isoformat())
        _move(model_name, earlier.version, champion, verdict, key, moment)
        return Move(model_name, earlier.version, champion.version, tuple(skipped))
    why = "; ".join(skipped) or "it is the first"
    raise RegistryError(f"{model_name} has no champion before version {champion.version} to roll back to: {why}")


def serving(model_name: str, public_key: Ed25519PublicKey, *, now: datetime | None = None) -> Serving | None:
    """Return the champion with its verdict and current standing; None without a champion.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    champion = registry.by_alias(model_name, registry.CHAMPION)
    if champion is None:
        return None
    verdict, current = None, None
    try:
        with fetched(model_name, champion.version) as path:
            verdict = open_release(path, public_key, name=model_name)
        current = standing_of(model_name, champion, verdict, public_key)
        check_holds(verdict, now=now, holds_until=current.expires_at)
        check_claims(current)
    except VerdictError as error:
        return Serving(champion, verdict, str(error), current)
    return Serving(champion, verdict, _record_problem(model_name, champion, verdict, public_key), current)


def restate(
    model_name: str,
    number: str,
    key: Ed25519PrivateKey,
    job: str,
    claim: Claim | None,
    *,
    expires_at: datetime | None = None,
    now: datetime | None = None,
) -> Standing:
    """Sign a new standing of a version, store it in the registry and return it.

    Args:
        model_name: Name in the registry.
        number: Number of the version.
        key: Signs; the version's verdict must be signed with the same key.
        job: The job whose claim changes.
        claim: Its new claim on the version; None removes the claim.
        expires_at: Aware time to which the verdict is renewed; default: unchanged.
        now: Aware time; default: the current time.

    Raises:
        RegistryError: No such version, or the registry cannot be reached.
        VerdictError: The version has no authentic verdict.
    """
    with _one_at_a_time():
        version = registry.version(model_name, number)
        before = _last_standing(model_name, version, key.public_key())
        # Later than the standing it replaces even if the clock was set back: the service rejects an older one.
        moment = max(now or datetime.now(UTC), before.moment + TICK)
        after = replace(before.claimed(job, claim), moment=moment)
        if expires_at is not None:
            after = replace(after, issued_at=moment, expires_at=expires_at)
        tracking.tag_version(model_name, number, registry.STANDING_TAG, issue_standing(after, key))
        return after


def _last_standing(model_name: str, version: Version, public_key: Ed25519PublicKey) -> Standing:
    """Return the standing of ``version``; one that ``public_key`` did not sign is ignored."""
    with suppress(VerdictError):
        return read_standing(version.standing, public_key, model_name=model_name, version=version.version)
    with fetched(model_name, version.version) as path:
        verdict = open_release(path, public_key, name=model_name)
    return of_verdict(verdict, model_name=model_name, version=version.version)


def standing_of(model_name: str, version: Version, verdict: Verdict, public_key: Ed25519PublicKey) -> Standing:
    """Return the standing of ``version``.

    Raises:
        VerdictError: ``standing``: the stored standing is not valid.
    """
    if not version.standing:
        return of_verdict(verdict, model_name=model_name, version=version.version)
    found = read_standing(version.standing, public_key, model_name=model_name, version=version.version)
    found.check(verdict)
    return found


def _valid_verdict(
    path: Path, model_name: str, version: Version, public_key: Ed25519PublicKey, now: datetime | None
) -> Verdict:
    """Return the verdict of the release in ``path`` if it is valid, renewals included, and no job objects to it.

    Raises:
        VerdictError: It is not valid, or a job objects.
    """
    verdict = open_release(path, public_key, name=model_name)
    found = standing_of(model_name, version, verdict, public_key)
    check_holds(verdict, now=now, holds_until=found.expires_at)
    check_claims(found)
    return verdict


def check_claims(found: Standing) -> None:
    """Raise if a job of the watch objects to the version.

    Raises:
        VerdictError: ``standing``, with the objections.
    """
    if found.claims:
        raise VerdictError(
            "standing",
            f"version {found.version} of {found.model} is {found.state}: {'; '.join(found.reasons)};"
            f" `buckler champion --lift JOB --version {found.version}` lifts the claim of a job",
        )


@contextmanager
def fetched(model_name: str, number: str) -> Iterator[Path]:
    """Yield the downloaded release of a version, deleted on exit; nothing in it is verified."""
    with tempfile.TemporaryDirectory(prefix="buckler-") as scratch:
        yield registry.download(model_name, number, Path(scratch) / f"{model_name}-{number}")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold the lock of promotions; the kernel lets go of it when the process ends, however it does.

    Raises:
        RegistryError: It cannot be had.
    """
    with ExitStack() as stack:
        try:
            paths.PROMOTION_LOCK.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.exclusive(paths.PROMOTION_LOCK))
        except OSError as error:
            raise RegistryError(
                f"cannot lock {paths.PROMOTION_LOCK} ({error.strerror}); run in a directory that can be written"
            ) from error
        yield


def _move(
    model_name: str,
    number: str,
    champion: Version | None,
    verdict: Verdict,
    key: Ed25519PrivateKey,
    moment: datetime,
) -> None:
    """Record the promotion, then point the alias to version ``number``.

    Raises:
        RegistryError: The alias was moved from ``champion`` by another machine in the meantime.
    """
    _record_promotion(model_name, number, verdict, key, moment)
    found = registry.by_alias(model_name, registry.CHAMPION)
    if (found and found.version) != (champion and champion.version):
        current = f"version {found.version}" if found else "none"
        raise RegistryError(f"the champion of {model_name} changed meanwhile, to {current}; check it and try again")
    tracking.set_alias(model_name, registry.CHAMPION, number)


def _record_promotion(model_name: str, number: str, verdict: Verdict, key: Ed25519PrivateKey, moment: datetime) -> None:
    record = promotion.issue(key, model_name=model_name, version=number, verdict=verdict, moment=moment)
    tracking.tag_version(model_name, number, registry.PROMOTION_TAG, record)


def _moment(model_name: str, public_key: Ed25519PublicKey, now: datetime | None) -> datetime:
    """Return the time of a new record: later than every existing record even if the clock was set back."""
    now = now or datetime.now(UTC)
    return max([now, *(record.moment + TICK for record in _records(model_name, public_key))])


def _records(model_name: str, public_key: Ed25519PublicKey) -> Iterator[promotion.PromotionRecord]:
    for version in registry.versions(model_name):
        with suppress(VerdictError):
            yield promotion.read(version.promotion, public_key, model_name=model_name, version=version.version)


def _record_problem(model_name: str, champion: Version, verdict: Verdict, public_key: Ed25519PublicKey) -> str | None:
    """Return why the champion is not validly promoted; None if it is."""
    try:
        record = promotion.read(champion.promotion, public_key, model_name=model_name, version=champion.version)
        record.check(verdict)
    except VerdictError as error:
        return str(error)
    return None


def _candidate(model_name: str, number: str | None) -> Version:
    if number is not None:
        return registry.version(model_name, number)
    challenger = registry.by_alias(model_name, registry.CHALLENGER)
    if challenger is None:
        raise RegistryError(f"{model_name} has no challenger in {registry.shown_uri()}; `dvc repro` publishes one")
    return challenger


def _check_promotable(
    model_name: str,
    candidate: Version,
    champion: Version | None,
    public_key: Ed25519PublicKey,
    now: datetime | None,
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict and notes for the operator.

    Raises:
        PromotionRefusedError: The version may not be promoted; lists every reason.
    """
    refusal = f"version {candidate.version} of {model_name} is not promoted"
    with fetched(model_name, candidate.version) as path:
        try:
            verdict = _valid_verdict(path, model_name, candidate, public_key, now)
        except VerdictError as error:
            raise PromotionRefusedError(refusal, _reasons(path, public_key, error)) from error
        evidence = bundle.read_evidence(path / EVIDENCE_DIR).evidence
    other: Evidence | None = None
    notes: tuple[str, ...] = ("no champion yet: nothing to compare with",)
    if champion is not None:
        other, notes = _champions_evidence(model_name, champion, public_key)
    # Decided again: the gate did not compare with a champion, and deciding costs nothing.
    decision = gate.decide(evidence, other, bundle.policy_of(verdict))
    if not decision.passed:
        raise PromotionRefusedError(refusal, decision.failures)
    return verdict, notes


def _reasons(path: Path, public_key: Ed25519PublicKey, error: VerdictError) -> list[str]:
    if error.reason != "failed":
        return [str(error)]
    return [str(reason) for reason in open_release(path, public_key).statement["reasons"]]


def _champions_evidence(
    model_name: str, champion: Version, public_key: Ed25519PublicKey
) -> tuple[Evidence | None, tuple[str, ...]]:
    """Return the evidence of the champion's verdict, expired or not, and notes; None if it is not authentic."""
    try:
        with fetched(model_name, champion.version) as path:
            open_release(path, public_key)
            return bundle.read_evidence(path / EVIDENCE_DIR).evidence, ()
    except (VerdictError, DataError) as error:
        # A champion without valid evidence must not block a candidate that has it.
        which = f"the champion, version {champion.version}"
        return None, (f"not compared with {which}, whose evidence is not valid: {error}",)


def _earlier(model_name: str, champion: Version) -> list[Version]:
    """Return former champions promoted before ``champion``, latest first."""
    former = [version for version in registry.versions(model_name) if version.promoted_at]
    before = [
        version
        for version in former
        if version.version != champion.version
        # A champion without a time of promotion was set by hand: every former champion counts as earlier.
        and (not champion.promoted_at or version.promoted_at < champion.promoted_at)
    ]
    return sorted(before, key=lambda version: version.promoted_at, reverse=True)
