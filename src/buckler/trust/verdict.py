"""The signed verdict of the gate: a document that others can verify.

A verdict is a DSSE envelope (https://github.com/secure-systems-lab/dsse) around a JSON statement, signed with
Ed25519. The statement contains the digests of the model directory and of every report that the gate read, so that
one signature covers the whole release::

    <release>/model/        the served files; the statement's subject
    <release>/evidence/     the reports the gate read; their digests are in the statement
    <release>/verdict.json  the envelope
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.errors import VerdictError
from buckler.trust import envelope
from buckler.trust.digests import directory_digest, file_digests
from buckler.trust.document import SignedDocument, Time

PAYLOAD_TYPE = "application/vnd.buckler.verdict+json"
SCHEMA = 1

MODEL_DIR = "model"
EVIDENCE_DIR = "evidence"
VERDICT_FILE = "verdict.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict whose signature and digests are valid.

    Attributes:
        id: ``sha256:…`` of the signed payload; identifies this verdict.
        subject_digest: ``directory_digest`` of the judged model.
        passed: Whether the gate passed the model.
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
        """Return whether the verdict has expired at ``now`` (an aware time; default: the current time)."""
        return (now or datetime.now(UTC)) >= self.expires_at


@dataclass(frozen=True, slots=True)
class _Subject:
    digest: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _Statement:
    subject: _Subject
    evidence: dict[str, str]
    passed: bool
    issued_at: Time
    expires_at: Time


_DOCUMENT = SignedDocument("verdict", PAYLOAD_TYPE, _Statement, schema=SCHEMA)


def sign(statement: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """Return the envelope of a verdict's whole statement."""
    return envelope.sign(statement, key, payload_type=PAYLOAD_TYPE)


def verify_release(
    release: Path,
    public_key: Ed25519PublicKey,
    *,
    name: str | None = None,
    now: datetime | None = None,
    valid_until: datetime | None = None,
) -> Verdict:
    """Return the verdict of ``release`` if it is authentic, matches the files, has passed and has not expired.

    Args:
        release: Directory with ``model/``, ``evidence/`` and ``verdict.json``.
        public_key: Key that must have signed the verdict.
        name: Registered model that the verdict must be about; default: any.
        now: Aware time at which the expiry is checked; default: the current time.
        valid_until: Aware time to which it was renewed (`buckler.trust.standing`); default: its own expiry.

    Raises:
        VerdictError: ``reason`` names the first check that failed.
    """
    verdict = open_release(release, public_key, name=name)
    check_valid(verdict, now=now, valid_until=valid_until)
    return verdict


def check_valid(verdict: Verdict, *, now: datetime | None = None, valid_until: datetime | None = None) -> None:
    """Check that an authentic ``verdict`` passed and has not expired; see `verify_release`.

    Raises:
        VerdictError: ``failed`` or ``expired``.
    """
    if not verdict.passed:
        reasons = "; ".join(map(str, verdict.statement.get("reasons", []))) or "no reason given"
        raise VerdictError("failed", f"the gate did not pass the model (verdict {verdict.id}): {reasons}")
    end = valid_until or verdict.expires_at
    if (now or datetime.now(UTC)) >= end:
        raise VerdictError("expired", f"the verdict {verdict.id} expired at {end.isoformat()}; run the gate again")


def open_release(release: Path, public_key: Ed25519PublicKey, *, name: str | None = None) -> Verdict:
    """Return the verdict of ``release`` if it is authentic and matches the files, even if it failed or has expired.

    A failed or expired verdict still documents the measurements.

    Raises:
        VerdictError: ``missing``, ``malformed``, ``signature``, ``digest`` or ``other_model``.
    """
    path = release / VERDICT_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VerdictError("missing", f"expected a signed verdict in {path}: {error.strerror}") from error
    opened = _DOCUMENT.open(envelope.parse_object(content, path.name), public_key)
    statement, subject = opened.content, opened.content.subject
    if name is not None and subject.name != name:
        raise VerdictError("other_model", f"the verdict is about a model named {subject.name!r}, not {name!r}")
    found = directory_digest(release / MODEL_DIR)
    if found != subject.digest:
        raise VerdictError("digest", f"the verdict is about model {subject.digest}, {release} contains {found}")
    _check_evidence(release / EVIDENCE_DIR, statement.evidence)
    return Verdict(
        opened.digest, subject.digest, statement.passed, statement.issued_at, statement.expires_at, opened.statement
    )


def _check_evidence(directory: Path, expected: Mapping[str, str]) -> None:
    found = file_digests(directory) if expected or directory.exists() else {}
    if found != expected:
        changed = sorted(set(found.items()) ^ set(expected.items()))
        names = sorted({name for name, _ in changed})
        raise VerdictError("digest", f"files in {directory} differ from the digests in the verdict: {names}")
