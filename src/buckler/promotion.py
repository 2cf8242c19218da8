"""Moves the alias ``champion``: forwards on a passing, signed verdict only, back to one that still holds."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler import gates, release, signing, tracking
from buckler.errors import DataError, PromotionRefusedError, RegistryError, VerdictError
from buckler.tracking import Version


@dataclass(frozen=True, slots=True)
class Move:
    """What became of the alias.

    Attributes:
        version: The champion now.
        previous: The champion before; None if there was none.
        notes: What a person should know, for example that no comparison took place.
    """

    model_name: str
    version: str
    previous: str | None
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Return whether the alias moved at all."""
        return self.version != self.previous


@dataclass(frozen=True, slots=True)
class Serving:
    """The champion and whether its verdict holds now; ``problem`` says why not."""

    version: Version
    verdict: signing.Verdict | None
    problem: str | None


def promote(
    model_name: str,
    public_key: Ed25519PublicKey,
    *,
    number: str | None = None,
    now: datetime | None = None,
) -> Move:
    """Make a version the champion if its verdict holds and it is not significantly worse than the champion.

    Args:
        model_name: In the registry.
        public_key: Of whom verdicts must be signed.
        number: The version; default: the challenger.
        now: Aware time; default: the clock.

    Raises:
        PromotionRefusedError: With every reason.
        RegistryError: No such version, or the registry cannot be asked.
    """
    candidate = _candidate(model_name, number)
    champion = tracking.by_alias(model_name, tracking.CHAMPION)
    notes = _refuse_unless_it_may(model_name, candidate, champion, public_key, now)
    previous = champion.version if champion else None
    if previous != candidate.version:
        # The history first: whoever is killed in between leaves the old champion serving.
        moment = (now or datetime.now(UTC)).isoformat()
        tracking.tag_version(model_name, candidate.version, tracking.PROMOTED_TAG, moment)
        tracking.set_alias(model_name, tracking.CHAMPION, candidate.version)
    return Move(model_name, candidate.version, previous, notes)


def rollback(model_name: str, public_key: Ed25519PublicKey, *, now: datetime | None = None) -> Move:
    """Make the champion before this one, the latest whose verdict still holds, the champion again.

    Raises:
        RegistryError: There is no champion, none before it that still holds, or the registry cannot be asked.
    """
    champion = tracking.by_alias(model_name, tracking.CHAMPION)
    if champion is None:
        raise RegistryError(f"{model_name} has no champion to roll back from; `buckler promote` makes one")
    passed_over = []
    for earlier in _earlier(model_name, champion):
        try:
            with fetched(model_name, earlier.version) as path:
                _verify(path, public_key, model_name, now)
        except VerdictError as error:
            passed_over.append(f"version {earlier.version}: {error}")
            continue
        moment = (now or datetime.now(UTC)).isoformat()
        tracking.tag_version(model_name, champion.version, tracking.WITHDRAWN_TAG, moment)
        tracking.set_alias(model_name, tracking.CHAMPION, earlier.version)
        return Move(model_name, earlier.version, champion.version, tuple(passed_over))
    why = "; ".join(passed_over) or "it is the first"
    raise RegistryError(f"{model_name} has no champion before version {champion.version} to go back to: {why}")


def serving(model_name: str, public_key: Ed25519PublicKey, *, now: datetime | None = None) -> Serving | None:
    """Return the champion with its verdict as it stands now; None without a champion.

    Raises:
        RegistryError: The registry cannot be asked.
    """
    champion = tracking.by_alias(model_name, tracking.CHAMPION)
    if champion is None:
        return None
    verdict = None
    try:
        with fetched(model_name, champion.version) as path:
            verdict = signing.open_release(path, public_key)
            _verify(path, public_key, model_name, now)
    except VerdictError as error:
        return Serving(champion, verdict, str(error))
    return Serving(champion, verdict, None)


@contextmanager
def fetched(model_name: str, number: str) -> Iterator[Path]:
    """Yield the release of a version, gone afterwards; nothing about it is verified."""
    with tempfile.TemporaryDirectory(prefix="buckler-") as scratch:
        yield tracking.download(model_name, number, Path(scratch) / f"{model_name}-{number}")


def _candidate(model_name: str, number: str | None) -> Version:
    if number is not None:
        return tracking.version(model_name, number)
    challenger = tracking.by_alias(model_name, tracking.CHALLENGER)
    if challenger is None:
        raise RegistryError(f"{model_name} has no challenger in {tracking.shown_uri()}; `dvc repro` publishes one")
    return challenger


def _refuse_unless_it_may(
    model_name: str,
    candidate: Version,
    champion: Version | None,
    public_key: Ed25519PublicKey,
    now: datetime | None,
) -> tuple[str, ...]:
    """Return notes for people, or raise PromotionRefusedError with every reason there is."""
    what = f"version {candidate.version} of {model_name} is not promoted"
    with fetched(model_name, candidate.version) as path:
        try:
            verdict = _verify(path, public_key, model_name, now)
        except VerdictError as error:
            raise PromotionRefusedError(what, _reasons(path, public_key, error)) from error
        evidence = release.read_evidence(path / signing.EVIDENCE_DIR).evidence
    other: gates.Evidence | None = None
    notes: tuple[str, ...] = ("no champion yet: nothing to compare with",)
    if champion is not None:
        other, notes = _champions_evidence(model_name, champion, public_key)
    # Decided again, not believed: the gate knew no champion, and its rule costs nothing.
    decision = gates.decide(evidence, other, release.policy_of(verdict))
    if not decision.passed:
        raise PromotionRefusedError(what, decision.failures)
    return notes


def _verify(path: Path, public_key: Ed25519PublicKey, model_name: str, now: datetime | None) -> signing.Verdict:
    verdict = signing.verify_release(path, public_key, now=now)
    name = verdict.statement["subject"].get("name")
    if name != model_name:
        raise VerdictError("malformed", f"the verdict is about a model named {name!r}, not {model_name!r}")
    return verdict


def _reasons(path: Path, public_key: Ed25519PublicKey, error: VerdictError) -> list[str]:
    if error.reason != "failed":
        return [str(error)]
    return [str(reason) for reason in signing.open_release(path, public_key).statement["reasons"]]


def _champions_evidence(
    model_name: str, champion: Version, public_key: Ed25519PublicKey
) -> tuple[gates.Evidence | None, tuple[str, ...]]:
    """Return what the champion was judged by. An expired verdict is still evidence; a broken one is none."""
    try:
        with fetched(model_name, champion.version) as path:
            signing.open_release(path, public_key)
            return release.read_evidence(path / signing.EVIDENCE_DIR).evidence, ()
    except (VerdictError, DataError) as error:
        # A champion that proves nothing must not keep a proven one out.
        which = f"the champion, version {champion.version}"
        return None, (f"not compared with {which}, whose evidence does not hold: {error}",)


def _earlier(model_name: str, champion: Version) -> list[Version]:
    """Return former champions promoted before ``champion``, latest first."""
    former = [version for version in tracking.versions(model_name) if version.promoted_at]
    before = [
        version
        for version in former
        if version.version != champion.version
        # A champion without a time was made one by hand: every former one came before it.
        and (not champion.promoted_at or version.promoted_at < champion.promoted_at)
    ]
    return sorted(before, key=lambda version: version.promoted_at, reverse=True)
