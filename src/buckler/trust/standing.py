"""The signed standing of a promoted version: whether its verdict still counts, and until when.

A verdict is about the day on which it was given. What the watch finds later is put down in a DSSE envelope of its own
beside the version: renewed, every answer to be reviewed, or no answers. The service follows it, and none that is
older than one it has followed. Each job that objects has a claim of its own, so that none lifts another's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.errors import VerdictError
from buckler.trust.envelope import open_envelope, parse_object, sign
from buckler.trust.verdict import Verdict

PAYLOAD_TYPE = "application/vnd.buckler.standing+json"
SCHEMA = 1

State = Literal["holds", "degraded", "withdrawn"]
STATES: tuple[State, ...] = ("holds", "degraded", "withdrawn")  # from best to worst
HOLDS, DEGRADED, WITHDRAWN = STATES
LONGEST_REASON = 300  # characters; a registry's tag has no room for a report


@dataclass(frozen=True, slots=True)
class Claim:
    """What one job holds against the version: ``degraded`` or ``withdrawn``, and why."""

    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What was signed.

    Attributes:
        model, version: Name and number in the registry.
        digest: Of the model bytes.
        verdict: Id of the verdict that is renewed or taken back.
        issued_at: Aware time at which the verdict was given, or renewed last.
        expires_at: Aware time until which it holds, as renewed.
        moment: Aware time; of two standings the later one counts.
        claims: What speaks against it, by the job that says so; empty while it holds.
    """

    model: str
    version: str
    digest: str
    verdict: str
    issued_at: datetime
    expires_at: datetime
    moment: datetime
    claims: Mapping[str, Claim] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """The worst of the claims; ``holds`` without any."""
        return max((claim.state for claim in self.claims.values()), key=STATES.index, default=HOLDS)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against it, a sentence a job."""
        return tuple(f"{job}: {claim.reason}" for job, claim in sorted(self.claims.items()))

    def check(self, verdict: Verdict) -> None:
        """See that this is about ``verdict``.

        Raises:
            VerdictError: ``standing``.
        """
        if (self.digest, self.verdict) != (verdict.subject_digest, verdict.id):
            raise VerdictError(
                "standing",
                f"the standing of version {self.version} of {self.model} is about model {self.digest} and verdict"
                f" {self.verdict}, it now holds {verdict.subject_digest} and {verdict.id}",
            )

    def claimed(self, job: str, claim: Claim | None) -> "Standing":
        """Return this standing with the claim of ``job`` as given; None lifts it."""
        others = {name: kept for name, kept in self.claims.items() if name != job}
        return replace(self, claims=others if claim is None else {**others, job: claim})


def of_verdict(verdict: Verdict, *, model_name: str, version: str) -> Standing:
    """Return where a version stands of which nobody has said anything since its verdict."""
    return Standing(
        model_name,
        version,
        verdict.subject_digest,
        verdict.id,
        issued_at=verdict.issued_at,
        expires_at=verdict.expires_at,
        moment=verdict.issued_at,
    )


def issue(standing: Standing, key: Ed25519PrivateKey) -> str:
    """Return the document as it is kept in the registry."""
    kept = {job: Claim(claim.state, claim.reason[:LONGEST_REASON]) for job, claim in standing.claims.items()}
    standing = replace(standing, claims=kept)
    statement = {
        "schema": SCHEMA,
        "model": standing.model,
        "version": standing.version,
        "digest": standing.digest,
        "verdict": standing.verdict,
        "state": standing.state,
        "issued_at": standing.issued_at.isoformat(),
        "expires_at": standing.expires_at.isoformat(),
        "moment": standing.moment.isoformat(),
        "reasons": list(standing.reasons),
        "claims": {job: {"state": claim.state, "reason": claim.reason} for job, claim in kept.items()},
    }
    return json.dumps(sign(statement, key, payload_type=PAYLOAD_TYPE), separators=(",", ":"))


def read(text: str, public_key: Ed25519PublicKey, *, model_name: str, version: str) -> Standing:
    """Return the standing in ``text`` if ``public_key`` signed it about this version.

    Raises:
        VerdictError: ``standing``.
    """
    what = f"the standing of version {version} of {model_name}"
    try:
        envelope = parse_object(text.encode(), "the standing")
        found = _standing(open_envelope(envelope, public_key, payload_type=PAYLOAD_TYPE))
    except VerdictError as error:
        raise VerdictError("standing", f"{what} does not hold: {error}") from error
    if (found.model, found.version) != (model_name, version):
        raise VerdictError("standing", f"{what} is that of version {found.version} of {found.model}")
    return found


def _standing(statement: Mapping[str, Any]) -> Standing:
    try:
        if statement["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {statement['schema']!r}")
        texts = {name: statement[name] for name in ("model", "version", "digest", "verdict", "state")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError(f"expected text, got {texts}")
        claims = {str(job): _claim(claim) for job, claim in statement["claims"].items()}
        state = texts.pop("state")
        issued_at, expires_at, moment = (_time(statement[name]) for name in ("issued_at", "expires_at", "moment"))
        found = Standing(**texts, issued_at=issued_at, expires_at=expires_at, moment=moment, claims=claims)
        if state != found.state:
            raise ValueError(f"expected the state {found.state!r} of its claims, got {state!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VerdictError("malformed", f"the signed standing does not hold what it must: {error!r}") from error
    return found


def _claim(values: Mapping[str, Any]) -> Claim:
    state = values["state"]
    if state not in (DEGRADED, WITHDRAWN):
        raise ValueError(f"expected a claim of {DEGRADED!r} or {WITHDRAWN!r}, got {state!r}")
    return Claim(state, str(values["reason"]))


def _time(text: object) -> datetime:
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with its zone, got {text!r}")
    return moment
