"""Signed receipts: what a service answered about which picture, for a client to check without the service.

A receipt is a DSSE envelope, as a verdict is, of another type and with another key: the service holds this key and
must never hold the one that signs verdicts. What a receipt proves, and what not, is in docs/threat-model.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.errors import BucklerError, ReceiptError, VerdictError
from buckler.state import paths
from buckler.trust import digests, keys
from buckler.trust.envelope import open_envelope, parse_object, sign

PAYLOAD_TYPE = "application/vnd.buckler.receipt+json"
SCHEMA = 1

PRIVATE_KEY_FILE = "receipts.pem"
PUBLIC_KEY_FILE = "receipts.pub"
RECEIPT_KEY_ENV = "BUCKLER_RECEIPT_KEY"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt whose signature holds.

    Attributes:
        input_digest: ``sha256:…`` of the picture's bytes as the service received them.
        answer: What the client got, the receipt itself left out.
        issued_at: Aware time, by the service's clock.
        audit: Sequence number and digest of the answer's line in the audit log; None if none is kept.
    """

    input_digest: str
    answer: dict[str, Any]
    issued_at: datetime
    audit: tuple[int, str] | None

    @property
    def model_digest(self) -> str:
        """``sha256:…`` of the model directory that answered."""
        return str(self.answer["model"]["digest"])


def generate_key_pair(directory: Path) -> None:
    """Write ``receipts.pem`` and ``receipts.pub`` into ``directory``.

    Raises:
        BucklerError: One of them exists; a key is never overwritten.
    """
    keys.generate_key_pair(directory, private_file=PRIVATE_KEY_FILE, public_file=PUBLIC_KEY_FILE)


def load_key(named: Path | None) -> Ed25519PrivateKey | None:
    """Return the key that receipts are signed with: the one in ``named``, else the project's own, if it has one.

    Raises:
        BucklerError: The file is not there, holds no Ed25519 key, or holds the key that verdicts are signed with.
    """
    path = named or paths.KEYS / PRIVATE_KEY_FILE
    if named is None and not path.exists():
        return None
    key = keys.load_private_key(path, named_by=RECEIPT_KEY_ENV)
    if keys.key_id(key.public_key()) == _verdict_key_id():
        raise BucklerError(
            f"{path} is the key that verdicts are signed with, which no service may hold; take it away from this"
            " machine and make another with `buckler keys init --for receipts`"
        )
    return key


def _verdict_key_id() -> str | None:
    try:
        return keys.key_id(keys.load_public_key())
    except BucklerError:  # then no model serves either
        return None


def issue(
    answer: Mapping[str, Any],
    key: Ed25519PrivateKey,
    *,
    input_digest: str,
    moment: datetime,
    audit: tuple[int, str] | None,
) -> dict[str, Any]:
    """Return the envelope of a receipt; the arguments are those of ``Receipt``."""
    statement = {
        "schema": SCHEMA,
        "issued_at": moment.isoformat(),
        "input": input_digest,
        "answer": dict(answer),
        "audit": {"sequence": audit[0], "digest": audit[1]} if audit else None,
    }
    return sign(statement, key, payload_type=PAYLOAD_TYPE)


def verify(path: Path, image: Path, public_key: Ed25519PublicKey, *, model_digest: str | None = None) -> Receipt:
    """Return the receipt in ``path`` if it holds and is about the picture in ``image``.

    Args:
        path: The whole answer with its ``receipt``, or the receipt alone. Of an answer, every field must be as signed.
        image: The picture's file, the same bytes that were sent.
        public_key: The service's.
        model_digest: Of the model that must have answered.

    Raises:
        ReceiptError: Signature, picture, model or the answer beside the receipt do not fit.
        BucklerError: A file cannot be read.
    """
    try:
        content, picture = path.read_bytes(), digests.file_digest(image)
    except OSError as error:
        raise BucklerError(f"cannot read {error.filename}: {error.strerror}") from error
    return check(content, picture, public_key, model_digest=model_digest, named=(str(path), str(image)))


def check(
    content: bytes,
    picture: str,
    public_key: Ed25519PublicKey,
    *,
    model_digest: str | None = None,
    named: tuple[str, str],
) -> Receipt:
    """Return the receipt in an answer if it holds and is about the picture with the digest ``picture``.

    Args:
        content: JSON, as the file of ``verify``.
        picture: ``sha256:…`` of the bytes that were sent.
        public_key, model_digest: As for ``verify``.
        named: What the answer and the picture are called in an error.

    Raises:
        ReceiptError: As ``verify``.
    """
    receipt = _open(content, named[0], public_key)
    if receipt.input_digest != picture:
        raise ReceiptError(f"the receipt is about a picture {receipt.input_digest}, {named[1]} is {picture}")
    if model_digest is not None and receipt.model_digest != model_digest:
        raise ReceiptError(f"expected an answer of model {model_digest}, the receipt is of {receipt.model_digest}")
    return receipt


def _open(content: bytes, path: str, public_key: Ed25519PublicKey) -> Receipt:
    try:
        given = parse_object(content, path)
        alone = "payload" in given
        envelope = given if alone else given.pop("receipt", None)
        if envelope is None:
            raise ReceiptError(f"{path} holds no receipt; the answer to a request with X-Buckler-Receipt: ed25519 does")
        statement = open_envelope(envelope, public_key, payload_type=PAYLOAD_TYPE)
    except VerdictError as error:
        raise ReceiptError(f"{path}: {error}") from error
    receipt = _receipt(statement, path)
    if not alone and given != receipt.answer:
        names = sorted(given.keys() | receipt.answer.keys())
        differing = [name for name in names if given.get(name) != receipt.answer.get(name)]
        raise ReceiptError(f"{path}: the answer beside the receipt is not the one that was signed, see {differing}")
    return receipt


def _receipt(statement: Mapping[str, Any], path: str) -> Receipt:
    try:
        if statement["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {statement['schema']!r}")
        audit = statement["audit"]
        receipt = Receipt(
            input_digest=str(statement["input"]),
            answer=dict(statement["answer"]),
            issued_at=datetime.fromisoformat(statement["issued_at"]),
            audit=(int(audit["sequence"]), str(audit["digest"])) if audit else None,
        )
        _ = [receipt.answer[name] for name in ("label", "decision")]
        _ = [receipt.answer["model"][name] for name in ("name", "version", "digest")]
    except (KeyError, TypeError, ValueError) as error:
        raise ReceiptError(f"{path}: the signed receipt does not hold what it must: {error!r}") from error
    return receipt
