"""The signed standing of a promoted version: whether its verdict is still valid, and until when.

A verdict describes the day on which it was issued. Later findings of the watch's jobs are stored with the version as a
signed standing: the verdict is renewed (``holds``), every answer requires review (``degraded``), or the version must
not answer (``withdrawn``). The service applies the standing, and rejects one older than the newest it has accepted.
Each standing has a number in the signer's journal, which tells older from newer.
Each job has its own claim, so no job lifts the claim of another.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from buckler.errors import VerdictError
from buckler.trust.audit import START
from buckler.trust.document import RecordNumber, SignedDocument, Subjects, Time
from buckler.trust.envelope import parse_object
from buckler.trust.public_keys import PublicKeys
from buckler.trust.signing_key import SigningKey
from buckler.trust.verdict import Verdict

State = Literal["holds", "degraded", "withdrawn"]
ClaimState = Literal["degraded", "withdrawn"]
STATES: tuple[State, ...] = ("holds", "degraded", "withdrawn")  # from best to worst
HOLDS: Literal["holds"] = "holds"
DEGRADED: Literal["degraded"] = "degraded"
WITHDRAWN: Literal["withdrawn"] = "withdrawn"
LONGEST_REASON = 300  # characters; the registry limits the length of a tag


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim of one job on a version.

    Attributes:
        state: ``degraded``: every answer needs review; ``withdrawn``: the version must not answer.
        reason: Why, in one sentence.
    """

    state: ClaimState
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """The standing of one version of a model.

    Attributes:
        model: Name of the model in the registry.
        version: Number of the version in the registry.
        digest: ``directory_digest`` of the model.
        verdict: Id of the verdict that is renewed or revoked.
        issued_at: Aware time at which the verdict was issued, or last renewed.
        expires_at: Aware time until which it is valid, renewals included.
        moment: Aware time of this statement.
        claims: Job -> its claim; empty while the verdict is valid.
        registry: Id of the registry in which it is valid; empty in a standing of version 1, and of a bare verdict.
        sequence: Number of this record in the signer's journal; the standing with the highest number is the valid one.
        previous: ``sha256:…`` of the journal's line before this record.
    """

    model: str
    version: str
    digest: str
    verdict: str
    issued_at: Time
    expires_at: Time
    moment: Time
    claims: Mapping[str, Claim] = field(default_factory=dict)
    registry: str = ""
    sequence: RecordNumber = 0
    previous: str = START

    def is_about(self, subjects: Subjects) -> bool:
        """Return whether ``subjects`` is the model of this version."""
        return subjects == {self.model: self.digest}

    @property
    def order(self) -> tuple[int, datetime]:
        """Of two standings the one with the higher order is valid; those of version 1 have a time only."""
        return self.sequence, self.moment

    @property
    def state(self) -> State:
        """The worst state of all claims; ``holds`` if there are none."""
        return max((claim.state for claim in self.claims.values()), key=STATES.index, default=HOLDS)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of the claims, one sentence per job."""
        return tuple(f"{job}: {claim.reason}" for job, claim in sorted(self.claims.items()))

    def check(self, verdict: Verdict) -> None:
        """Check that this standing is about ``verdict``.

        Raises:
            VerdictError: ``standing``.
        """
        if (self.digest, self.verdict) != (verdict.subject_digest, verdict.id):
            raise VerdictError(
                "standing",
                f"the standing of version {self.version} of {self.model} is about model {self.digest} and verdict"
                f" {self.verdict}, but the version now contains {verdict.subject_digest} and {verdict.id}",
            )

    def claimed(self, job: str, claim: Claim | None) -> "Standing":
        """Return this standing with the claim of ``job`` set to ``claim``; None removes it."""
        others = {name: kept for name, kept in self.claims.items() if name != job}
        return replace(self, claims=others if claim is None else {**others, job: claim})


def of_verdict(verdict: Verdict, *, model_name: str, version: str) -> Standing:
    """Return the standing of a version without claims, whose verdict was not renewed."""
    return Standing(
        model_name,
        version,
        verdict.subject_digest,
        verdict.id,
        issued_at=verdict.issued_at,
        expires_at=verdict.expires_at,
        moment=verdict.issued_at,
    )


DOCUMENT = SignedDocument("standing", Standing, version=2)


def issue(standing: Standing, key: SigningKey) -> str:
    """Return the signed standing as text, in the form that the registry stores."""
    short = {job: replace(claim, reason=claim.reason[:LONGEST_REASON]) for job, claim in standing.claims.items()}
    standing = replace(standing, claims=short)
    sealed = DOCUMENT.sign(standing, {standing.model: standing.digest}, key)
    return json.dumps(sealed, separators=(",", ":"))


def read(text: str, public_keys: PublicKeys, *, model_name: str, version: str, registry: str) -> Standing:
    """Return the standing in ``text`` if one of ``public_keys`` signed it for this version in this registry.

    A standing of version 1 names no registry and is valid in each: it only judges a verdict and the model's bytes.

    Raises:
        VerdictError: ``standing``.
    """
    subject = f"the standing of version {version} of {model_name}"
    try:
        found = DOCUMENT.open(parse_object(text, "the standing"), public_keys).predicate
    except VerdictError as error:
        raise VerdictError("standing", f"{subject} is not valid: {error}") from error
    if (found.model, found.version) != (model_name, version):
        raise VerdictError("standing", f"{subject} belongs to version {found.version} of {found.model}")
    if found.registry not in ("", registry):
        raise VerdictError(
            "standing",
            f"{subject} was signed for the registry {found.registry!r}, this is {registry!r} (BUCKLER_REGISTRY_ID)",
        )
    return found
