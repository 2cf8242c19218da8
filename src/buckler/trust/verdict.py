"""Digest, statement, signature: what makes a gate's verdict a document that others can check.

A verdict is a DSSE envelope (https://github.com/secure-systems-lab/dsse) around a JSON statement, signed with
Ed25519. The statement names the digest of the model directory and of every report it rests on, so that one
signature covers a whole release::

    <release>/model/        the bytes that serve; the statement's subject
    <release>/evidence/     the reports the gate read; their digests are in the statement
    <release>/verdict.json  the envelope
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.errors import VerdictError
from buckler.trust.digests import directory_digest, file_digests
from buckler.trust.envelope import _open_payload, parse_object

SCHEMA = 1

MODEL_DIR = "model"
EVIDENCE_DIR = "evidence"
VERDICT_FILE = "verdict.json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A statement whose signature and digests hold.

    Attributes:
        id: ``sha256:…`` of the signed payload; names this one verdict.
        subject_digest: ``directory_digest`` of the model that was judged.
        passed: What the gate decided.
        issued_at, expires_at: Aware times.
        statement: The whole signed document.
    """

    id: str
    subject_digest: str
    passed: bool
    issued_at: datetime
    expires_at: datetime
    statement: dict[str, Any]

    def expired(self, now: datetime | None = None) -> bool:
        """Tell whether the verdict no longer holds at ``now`` (an aware time; default: the clock)."""
        return (now or datetime.now(UTC)) >= self.expires_at


# --- release


def verify_release(
    release: Path,
    public_key: Ed25519PublicKey,
    *,
    name: str | None = None,
    now: datetime | None = None,
    holds_until: datetime | None = None,
) -> Verdict:
    """Return the verdict of ``release`` if it holds: authentic, about these bytes, passed, not expired.

    Args:
        release: Directory with ``model/``, ``evidence/`` and ``verdict.json``.
        public_key: Of whom the verdict must be signed.
        name: Of the registered model that the verdict must be about; default: any.
        now: Aware time to check the expiry at; default: the clock.
        holds_until: Aware time to which it was renewed (`buckler.trust.standing`); default: what it says itself.

    Raises:
        VerdictError: Its ``reason`` says which of these fails first.
    """
    verdict = open_release(release, public_key, name=name)
    check_holds(verdict, now=now, holds_until=holds_until)
    return verdict


def check_holds(verdict: Verdict, *, now: datetime | None = None, holds_until: datetime | None = None) -> None:
    """See that an authentic ``verdict`` passed and has not expired; see `verify_release`.

    Raises:
        VerdictError: ``failed`` or ``expired``.
    """
    if not verdict.passed:
        reasons = "; ".join(map(str, verdict.statement.get("reasons", []))) or "no reason given"
        raise VerdictError("failed", f"the verdict {verdict.id} says that the gate was not passed: {reasons}")
    end = holds_until or verdict.expires_at
    if (now or datetime.now(UTC)) >= end:
        raise VerdictError("expired", f"the verdict {verdict.id} expired at {end.isoformat()}; run the gate again")


def open_release(release: Path, public_key: Ed25519PublicKey, *, name: str | None = None) -> Verdict:
    """Return the verdict of ``release`` if it is authentic and about these bytes, whatever it says.

    A failed or expired verdict still is good evidence of what was measured.

    Raises:
        VerdictError: ``missing``, ``malformed``, ``signature``, ``digest`` or ``other_model``.
    """
    path = release / VERDICT_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VerdictError("missing", f"expected a signed verdict in {path}: {error.strerror}") from error
    payload = _open_payload(parse_object(content, path.name), public_key)
    verdict = _verdict(payload)
    about = verdict.statement["subject"].get("name")
    if name is not None and about != name:
        raise VerdictError("other_model", f"the verdict is about a model named {about!r}, not {name!r}")
    found = directory_digest(release / MODEL_DIR)
    if found != verdict.subject_digest:
        raise VerdictError("digest", f"the verdict is about model {verdict.subject_digest}, {release} holds {found}")
    _check_evidence(release / EVIDENCE_DIR, verdict.statement["evidence"])
    return verdict


def _check_evidence(directory: Path, expected: Mapping[str, str]) -> None:
    found = file_digests(directory) if expected or directory.exists() else {}
    if found != expected:
        changed = sorted(set(found.items()) ^ set(expected.items()))
        names = sorted({name for name, _ in changed})
        raise VerdictError("digest", f"the verdict does not rest on these files in {directory}: {names}")


def _verdict(payload: bytes) -> Verdict:
    statement = parse_object(payload, "the signed statement")
    try:
        if statement["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {statement['schema']!r}")
        verdict = Verdict(
            id=f"sha256:{hashlib.sha256(payload).hexdigest()}",
            subject_digest=_typed(statement["subject"]["digest"], str),
            passed=_typed(statement["passed"], bool),
            issued_at=_time(statement["issued_at"]),
            expires_at=_time(statement["expires_at"]),
            statement=statement,
        )
        _typed(statement["evidence"], dict)
    except (KeyError, TypeError, ValueError) as error:
        raise VerdictError("malformed", f"the signed statement does not hold what it must: {error!r}") from error
    return verdict


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {value!r}")
    return value


def _time(text: object) -> datetime:
    moment = datetime.fromisoformat(_typed(text, str))
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with its zone, got {text!r}")
    return moment
