"""May a version of a model serve, and why not: answered here, once, from its signed documents and the time.

`assess` is a pure function; `buckler.serving.release_files` reads what it needs of a release's files. Everything else
that speaks about a version (promotion, roll-back, service, watch, `buckler champion`, console) shows an `Assessment` or
acts on one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from buckler.errors import BucklerError, VerdictError
from buckler.serving.version import Version
from buckler.trust import approval, promotion, standing
from buckler.trust.approval import Approval, Approvals, Signatures
from buckler.trust.opened_files import OpenedFiles
from buckler.trust.promotion import PromotionRecord
from buckler.trust.public_keys import TrustedKeys
from buckler.trust.standing import WITHDRAWN, Standing
from buckler.trust.verdict import Verdict

EARLIEST = datetime.min.replace(tzinfo=UTC)


class ReasonCode(StrEnum):
    """A closed set; it labels metrics, and the runbook `BucklerModelRefused` explains each."""

    MISSING = "missing"
    MALFORMED = "malformed"
    SIGNATURE = "signature"
    DIGEST = "digest"
    OTHER_MODEL = "other_model"
    UNLOADABLE = "unloadable"
    SELF_TEST = "self_test"
    FAILED = "failed"
    EXPIRED = "expired"
    NOT_PROMOTED = "not_promoted"
    SUPERSEDED = "superseded"
    PUT_BACK = "put_back"
    NOT_APPROVED = "not_approved"
    WITHDRAWN = "withdrawn"
    DEGRADED = "degraded"
    STANDING = "standing"
    SOURCE = "source"
    UNAVAILABLE = "unavailable"


_NOT_DOWNLOADED = frozenset({ReasonCode.SOURCE, ReasonCode.UNAVAILABLE})
# The release proves nothing.
_NOT_AUTHENTIC = _NOT_DOWNLOADED | {
    ReasonCode.MISSING,
    ReasonCode.MALFORMED,
    ReasonCode.SIGNATURE,
    ReasonCode.DIGEST,
    ReasonCode.OTHER_MODEL,
}
# Nor can it be compared with a live model.
_UNUSABLE = _NOT_AUTHENTIC | {ReasonCode.UNLOADABLE, ReasonCode.SELF_TEST}
_NOT_LOADED = _UNUSABLE | {
    ReasonCode.FAILED,
    ReasonCode.EXPIRED,
    ReasonCode.NOT_PROMOTED,
    ReasonCode.SUPERSEDED,
    ReasonCode.PUT_BACK,
    ReasonCode.NOT_APPROVED,
}
_REVIEWED = frozenset({ReasonCode.EXPIRED, ReasonCode.DEGRADED})


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason against a version: its code, and a sentence that says what is wrong and what to do."""

    code: ReasonCode
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class OpenedRelease:
    """A release on disk and what its files say.

    Attributes:
        path: Its directory.
        files: Its files, each opened once: what is read from them is what was verified.
        verdict: The verdict, if its signature is valid.
        reasons: Why the release cannot be used; empty if verdict and files are authentic and this version of the
            product can load them.
    """

    path: Path
    files: OpenedFiles = field(compare=False)
    verdict: Verdict | None
    reasons: tuple[Reason, ...] = ()

    @property
    def authentic(self) -> bool:
        """Whether the verdict and all files are those that were signed for this model."""
        return self.verdict is not None and all(reason.code not in _NOT_AUTHENTIC for reason in self.reasons)

    @property
    def downloaded(self) -> bool:
        """Whether its source provided the files."""
        return _NOT_DOWNLOADED.isdisjoint(reason.code for reason in self.reasons)

    def require(self) -> Verdict:
        """Return the verdict of an authentic release, even if it failed or has expired.

        Raises:
            RefusedError: It is not authentic; with every reason.
        """
        if self.verdict is None or not self.authentic:
            raise RefusedError("the release is not authentic", self.reasons)
        return self.verdict


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a service has accepted about a version before: nothing older replaces it.

    Attributes:
        standing: Newest standing of the version.
        promotion: Number of the newest promotion of any version.
    """

    standing: Standing | None = None
    promotion: int = 0


@dataclass(frozen=True, slots=True)
class Assessment:
    """Whether a version may serve.

    Attributes:
        version: Its entry in the registry.
        verdict: Its verdict; None if it has no signed one.
        standing: Its valid standing, else the initial one of its verdict; None without either.
        promotion: The signed record of its promotion; None if it has no valid one, or needs none.
        approvals: Who approved its promotion; None without a promotion.
        reasons: Every reason against it.
    """

    version: Version
    verdict: Verdict | None
    standing: Standing | None
    promotion: PromotionRecord | None
    approvals: Approvals | None
    reasons: tuple[Reason, ...]

    def also(self, reasons: tuple[Reason, ...]) -> "Assessment":
        """Return this assessment with more reasons."""
        return replace(self, reasons=(*reasons, *self.reasons)) if reasons else self

    @property
    def not_told(self) -> bool:
        """Whether nothing speaks against it but that its release could not be downloaded: it may be in order."""
        return set(self.codes) == {ReasonCode.UNAVAILABLE}

    @property
    def codes(self) -> tuple[ReasonCode, ...]:
        """The codes of the reasons, each once."""
        return tuple(dict.fromkeys(reason.code for reason in self.reasons))

    @property
    def approved_by(self) -> tuple[str, ...]:
        """Names of the people who approved its promotion."""
        return self.approvals.approved if self.approvals else ()

    @property
    def may_compare(self) -> bool:
        """Whether a service may compare its answers with those of the live model, without giving them to clients."""
        return _UNUSABLE.isdisjoint(self.codes)

    @property
    def may_load(self) -> bool:
        """Whether a service loads it; a withdrawn version is loaded to show its card, and gives no answers."""
        return _NOT_LOADED.isdisjoint(self.codes)

    @property
    def may_serve(self) -> bool:
        """Whether a service that loads it now gives its answers."""
        return self.may_load and ReasonCode.WITHDRAWN not in self.codes

    @property
    def must_review(self) -> bool:
        """Whether its answers, if a service gives any, need review: it is degraded, or expired while it was live."""
        return not _REVIEWED.isdisjoint(self.codes)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The reasons as text."""
        return tuple(map(str, self.reasons))


class RefusedError(BucklerError):
    """A version or release that was needed may not be used; ``reasons`` has every reason."""

    def __init__(self, what: str, reasons: tuple[Reason, ...]) -> None:
        super().__init__(f"{what}: {'; '.join(map(str, reasons))}")
        self.reasons = reasons


def assess(
    version: Version,
    proof: Verdict | None,
    keys: TrustedKeys,
    *,
    now: datetime,
    flaws: tuple[Reason, ...] = (),
    promoted: bool = True,
    accepted: Accepted = Accepted(),
) -> Assessment:
    """Return whether ``version`` may serve, with every reason against it.

    Args:
        version: Its entry in the registry.
        proof: Its signed verdict; None without one.
        keys: Verify standing and promotion.
        now: Aware time at which expiry is checked.
        flaws: Why its release cannot be used, from `release_files.read_release`.
        promoted: Whether it needs a promotion; a candidate, or a directory that the operator names, needs none.
        accepted: What was accepted before.
    """
    known = accepted.standing if proof is None else _about(accepted.standing, proof)
    current, about_standing = newest_standing(version, keys, known)
    if proof is not None and current is not None:
        try:
            current.check(proof)
        except VerdictError as error:
            about_standing = (*about_standing, _ignored(error))
            current = known
    if proof is not None and current is None:
        current = standing.of_verdict(proof, model_name=version.model, version=version.version)
    record, about_promotion = _promotion(version, proof, keys, accepted) if promoted else (None, ())
    about_verdict = _judged(version, proof, current, now) if proof is not None and current is not None else ()
    approvals, about_approvals = _approvals(version, proof, keys, record)
    about_record = (*about_promotion, *about_approvals)
    reasons = (*flaws, *about_verdict, *about_record, *_claims(version, current), *about_standing)
    return Assessment(version, proof, current, record, approvals, reasons)


def _about(known: Standing | None, proof: Verdict) -> Standing | None:
    """Return ``known`` unless it is about another release, whose number this version has now."""
    same = known is not None and (known.digest, known.verdict) == (proof.subject_digest, proof.id)
    return known if same else None


def newest_standing(
    version: Version, keys: TrustedKeys, known: Standing | None = None
) -> tuple[Standing | None, tuple[Reason, ...]]:
    """Return the newest valid standing of ``version``, None without one, and why the stored one is ignored.

    Args:
        version: Its entry in the registry.
        keys: Verify the standing.
        known: The newest one that was accepted before; an older or deleted one does not replace it.
    """
    if not version.standing:
        return known, ()
    try:
        found = standing.read(
            version.standing,
            keys.promotion,
            model_name=version.model,
            version=version.version,
            registry=version.registry,
        )
    except VerdictError as error:
        return known, (_ignored(error),)
    if known and found.order < known.order:
        text = (
            f"the standing of {version} is record {found.sequence} from {found.moment.isoformat()}, a newer one is"
            f" record {known.sequence} from {known.moment.isoformat()}: an old standing was put back"
        )
        return known, (_ignored(text),)
    return found, ()


def _ignored(problem: object) -> Reason:
    sentence = f"{problem}; it is ignored: find who writes to the registry, the next run of the job signs a new one"
    return Reason(ReasonCode.STANDING, sentence)


def _judged(version: Version, proof: Verdict, current: Standing, now: datetime) -> tuple[Reason, ...]:
    reasons = []
    if not proof.passed:
        failures = proof.reasons or ("no reason given",)
        reasons += [
            Reason(ReasonCode.FAILED, f"{version} failed its gate: {failure}; promote a version that passes")
            for failure in failures
        ]
    if now >= current.expires_at:
        sentence = (
            f"the verdict {proof.id} expired at {current.expires_at.isoformat()}; `buckler watch --once reevaluate`"
            " renews it if the model still passes, `dvc repro` and `buckler promote` make and promote a new one"
        )
        reasons.append(Reason(ReasonCode.EXPIRED, sentence))
    return tuple(reasons)


def _claims(version: Version, current: Standing | None) -> Iterator[Reason]:
    for job, claim in sorted(current.claims.items()) if current else ():
        code = ReasonCode.WITHDRAWN if claim.state == WITHDRAWN else ReasonCode.DEGRADED
        yield Reason(
            code,
            f"{version} is {claim.state}: {job}: {claim.reason}; it is lifted when the job passes, or by `buckler"
            f" champion --lift {job} --version {version.version}`",
        )


def promoted_by(version: Version, keys: TrustedKeys) -> PromotionRecord:
    """Return the signed record of the last promotion of ``version``.

    Raises:
        VerdictError: ``not_promoted``.
    """
    return promotion.read(
        version.promotion,
        keys.promotion,
        model_name=version.model,
        version=version.version,
        registry=version.registry,
    )


def _promotion(
    version: Version, proof: Verdict | None, keys: TrustedKeys, accepted: Accepted
) -> tuple[PromotionRecord | None, tuple[Reason, ...]]:
    what_to_do = f"run `buckler promote --version {version.version}`"
    try:
        record = promoted_by(version, keys)
        latest = promotion.read_latest(
            version.latest, keys.promotion, model_name=version.model, registry=version.registry
        )
    except VerdictError as error:
        return None, (Reason(ReasonCode.NOT_PROMOTED, f"{error}; {what_to_do}"),)
    reasons = []
    try:
        if proof is not None:
            record.check(proof)
    except VerdictError as error:
        reasons.append(Reason(ReasonCode.NOT_PROMOTED, f"{error}; {what_to_do}"))
    later = max(accepted.promotion, latest.sequence)
    if record.sequence < later:
        other = f"version {latest.version}" if latest.sequence == later else "another version"
        sentence = (
            f"{version} was promoted by record {record.sequence}, {other} later, by record {later}: the alias was moved"
            " by hand, or that promotion was interrupted; `buckler rollback` or the promotion again sets it"
        )
        reasons.append(Reason(ReasonCode.SUPERSEDED, sentence))
    return record, tuple(reasons)


def approvals_of(version: Version, proof: Verdict, keys: TrustedKeys, texts: Iterable[str]) -> Approvals:
    """Return which people have approved ``version`` in ``texts``, by their signed approvals of exactly this release.

    Raises:
        VerdictError: ``malformed``: what the verdict demands cannot be read.
    """
    expected = Approval(version.model, version.version, proof.subject_digest, proof.id, version.registry)
    return approval.count(texts, expected, Signatures.of(proof), keys)


def _approvals(
    version: Version, proof: Verdict | None, keys: TrustedKeys, record: PromotionRecord | None
) -> tuple[Approvals | None, tuple[Reason, ...]]:
    if proof is None or record is None:
        return None, ()
    try:
        found = approvals_of(version, proof, keys, [record.approvals])
    except VerdictError as error:
        return None, (Reason(ReasonCode.NOT_APPROVED, f"{error}; find who signed it, or run `dvc repro`"),)
    if found.enough:
        return found, ()
    sentence = f"{found.sentence(version.version)}, then `buckler promote --version {version.version}`"
    return found, (Reason(ReasonCode.NOT_APPROVED, sentence),)
