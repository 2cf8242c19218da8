"""Digest, statement, signature: what makes a gate's verdict a document that others can check.

A verdict is a DSSE envelope (https://github.com/secure-systems-lab/dsse) around a JSON statement, signed with
Ed25519. The statement names the digest of the model directory and of every report it rests on, so that one
signature covers a whole release::

    <release>/model/        the bytes that serve; the statement's subject
    <release>/evidence/     the reports the gate read; their digests are in the statement
    <release>/verdict.json  the envelope
"""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.errors import BucklerError, VerdictError

PAYLOAD_TYPE = "application/vnd.buckler.verdict+json"
SCHEMA = 1

MODEL_DIR = "model"
EVIDENCE_DIR = "evidence"
VERDICT_FILE = "verdict.json"

KEY_DIR = Path(".buckler/keys")
PRIVATE_KEY_FILE = "verdict.pem"
PUBLIC_KEY_FILE = "verdict.pub"
SIGNING_KEY_ENV = "BUCKLER_SIGNING_KEY"
VERDICT_KEY_ENV = "BUCKLER_VERDICT_KEY"

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


# --- digests


def file_digest(path: Path) -> str:
    """Return ``sha256:…`` of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def file_digests(directory: Path) -> dict[str, str]:
    """Return relative posix path -> digest of every file below ``directory``, sorted.

    Raises:
        VerdictError: No such directory or no file in it (``missing``), or something in it is neither a
            file nor a directory, a symbolic link included (``digest``): its bytes could change unseen.
    """
    if not directory.is_dir():
        raise VerdictError("missing", f"expected a directory {directory}, there is none")
    digests = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise VerdictError("digest", f"expected only files and directories, got {path}; replace it by a copy")
        if path.is_file():
            digests[path.relative_to(directory).as_posix()] = file_digest(path)
    if not digests:
        raise VerdictError("missing", f"expected files in {directory}, it is empty")
    return dict(sorted(digests.items()))


def directory_digest(directory: Path) -> str:
    """Return ``sha256:…`` over the names and bytes of all files below ``directory``.

    Raises:
        VerdictError: As ``file_digests``.
    """
    return digest_of(file_digests(directory))


def digest_of(files: Mapping[str, str]) -> str:
    """Return the digest of a directory whose files have the digests ``files``."""
    return f"sha256:{hashlib.sha256(canonical(files)).hexdigest()}"


def canonical(values: Mapping[str, Any]) -> bytes:
    """Return ``values`` as JSON with sorted keys and no spaces; NaN or infinity is a ``ValueError``."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


# --- keys


def private_key_path() -> Path:
    """Return where the signing key lies: ``BUCKLER_SIGNING_KEY``, else the project's own."""
    return Path(os.environ.get(SIGNING_KEY_ENV) or KEY_DIR / PRIVATE_KEY_FILE)


def public_key_path() -> Path:
    """Return where the key to check verdicts with lies: ``BUCKLER_VERDICT_KEY``, else the project's own."""
    return Path(os.environ.get(VERDICT_KEY_ENV) or KEY_DIR / PUBLIC_KEY_FILE)


def generate_key_pair(
    directory: Path, *, private_file: str = PRIVATE_KEY_FILE, public_file: str = PUBLIC_KEY_FILE
) -> None:
    """Write a private key, readable by its owner only, and its public half into ``directory``.

    Raises:
        BucklerError: One of them exists; a key is never overwritten.
    """
    private, public = directory / private_file, directory / public_file
    for path in (private, public):
        if path.exists():
            raise BucklerError(
                f"{path} exists and is never overwritten; move it away to make a new pair"
                " (what the old key signed, the new one does not verify)"
            )
    key = Ed25519PrivateKey.generate()
    directory.mkdir(parents=True, exist_ok=True)
    _write_new(
        private,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        mode=0o600,
    )
    _write_new(public, public_pem(key.public_key()), mode=0o644)


def public_pem(key: Ed25519PublicKey) -> bytes:
    """Return a public key as it stands in its file."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    # The mode goes to open(2): between a write and a chmod the private key would be readable by others.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def load_private_key(path: Path | None = None, *, named_by: str = SIGNING_KEY_ENV) -> Ed25519PrivateKey:
    """Return the signing key in ``path`` (default ``private_key_path()``).

    Args:
        path: A PEM file.
        named_by: The variable or option that names another file, for the error's sake.

    Raises:
        BucklerError: There is none, or it is no unencrypted Ed25519 key in PEM form.
    """
    path = path or private_key_path()
    try:
        key = serialization.load_pem_private_key(_read_key(path, named_by), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BucklerError(f"{path} is no unencrypted private key in PEM form: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BucklerError(f"expected an Ed25519 private key in {path}, got {type(key).__name__}")
    return key


def load_public_key(path: Path | None = None, *, named_by: str = VERDICT_KEY_ENV) -> Ed25519PublicKey:
    """Return the key in ``path`` (default ``public_key_path()``) that signatures are checked with.

    Args:
        path: A PEM file.
        named_by: The variable or option that names another file, for the error's sake.

    Raises:
        BucklerError: There is none, or it is no Ed25519 public key in PEM form.
    """
    path = path or public_key_path()
    try:
        key = serialization.load_pem_public_key(_read_key(path, named_by))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BucklerError(f"{path} is no public key in PEM form: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BucklerError(f"expected an Ed25519 public key in {path}, got {type(key).__name__}")
    return key


def _read_key(path: Path, named_by: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BucklerError(
            f"cannot read the key {path} ({error.strerror}); `buckler keys init` makes a pair,"
            f" {named_by} names another file"
        ) from error


def load_or_create_private_key() -> tuple[Ed25519PrivateKey, bool]:
    """Return the signing key and whether it had to be made.

    Only the project's own pair is ever made: a ``BUCKLER_SIGNING_KEY`` that names no file is an error.

    Raises:
        BucklerError: As ``load_private_key``; or the public half is there alone, so that this project
            trusts somebody else's signature and a new pair would replace that trust.
    """
    path = private_key_path()
    if path.exists() or os.environ.get(SIGNING_KEY_ENV):
        return load_private_key(path), False
    generate_key_pair(KEY_DIR)
    return load_private_key(path), True


def key_id(key: Ed25519PublicKey) -> str:
    """Return ``sha256:…`` of the raw public key; a hint for people and for choosing keys, not a proof."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


# --- envelope


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: type and payload, each with its length so that none poses as another.

    Source: DSSE v1 protocol, "PAE".
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(statement: Mapping[str, Any], key: Ed25519PrivateKey, *, payload_type: str = PAYLOAD_TYPE) -> dict[str, Any]:
    """Return the DSSE envelope of ``statement``; the type is signed too, so that no kind poses as another."""
    payload = canonical(statement)
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }


def open_envelope(
    envelope: object, public_key: Ed25519PublicKey, *, payload_type: str = PAYLOAD_TYPE
) -> dict[str, Any]:
    """Return the statement inside ``envelope``; nothing of it is parsed before its signature holds.

    Raises:
        VerdictError: ``malformed`` or ``signature``.
    """
    return parse_object(_open_payload(envelope, public_key, payload_type), "the signed statement")


def _open_payload(envelope: object, public_key: Ed25519PublicKey, payload_type: str = PAYLOAD_TYPE) -> bytes:
    if not isinstance(envelope, dict) or set(envelope) != {"payload", "payloadType", "signatures"}:
        raise VerdictError("malformed", "expected a DSSE envelope with payload, payloadType and signatures")
    if envelope["payloadType"] != payload_type:
        raise VerdictError("malformed", f"expected payloadType {payload_type!r}, got {envelope['payloadType']!r}")
    payload = _decode(envelope["payload"])
    signatures = _signatures(envelope["signatures"])
    expected = key_id(public_key)
    if expected not in signatures:
        raise VerdictError(
            "signature",
            f"expected a signature of key {expected}, got {sorted(signatures)}; is it another project's?",
        )
    try:
        public_key.verify(signatures[expected], pre_authentication_encoding(payload_type, payload))
    except InvalidSignature as error:
        raise VerdictError("signature", f"the signature of key {expected} does not fit the statement") from error
    return payload


def _signatures(entries: object) -> dict[str, bytes]:
    if not isinstance(entries, list) or not entries:
        raise VerdictError("malformed", f"expected a list of signatures, got {entries!r}")
    signatures = {}
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {"keyid", "sig"} or not isinstance(entry["keyid"], str):
            raise VerdictError("malformed", "expected signatures with keyid and sig")
        signatures[entry["keyid"]] = _decode(entry["sig"])
    return signatures


def _decode(text: object) -> bytes:
    try:
        if not isinstance(text, str):
            raise ValueError(f"got {type(text).__name__}")
        content = base64.b64decode(text, validate=True)
        # Base64 has spare bits before its padding: two texts may mean the same bytes. One must.
        if base64.b64encode(content).decode() != text:
            raise ValueError("not in canonical form")
    except (ValueError, binascii.Error) as error:
        raise VerdictError("malformed", f"expected base64 text in the envelope: {error}") from error
    return content


def parse_object(content: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in ``content``; ``what`` names it in the error.

    Raises:
        VerdictError: ``malformed``: it is no JSON, no object, or a key stands there twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key stands there twice")
        return dict(pairs)

    try:
        values = json.loads(content, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise VerdictError("malformed", f"{what} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise VerdictError("malformed", f"expected {what} to be a JSON object, got {type(values).__name__}")
    return values


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
        holds_until: Aware time to which it was renewed (`buckler.standing`); default: what it says itself.

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
