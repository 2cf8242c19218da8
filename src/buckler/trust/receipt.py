"""Signed receipts: proof of what a service answered about a picture, which a client can verify without the service.

Like a verdict, a receipt is a signed document, but of another kind and with another key: the service has the receipt
key and must never have the key that signs verdicts. docs/threat-model.md explains what a receipt proves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from buckler.errors import BucklerError, ReceiptError, VerdictError
from buckler.state import paths
from buckler.trust import digests, keys
from buckler.trust.document import SignedDocument, Subjects, Time
from buckler.trust.envelope import parse_object
from buckler.trust.keys import Role
from buckler.trust.public_keys import PublicKeys
from buckler.trust.signing_key import SigningKey

PRIVATE_KEY_FILE = "receipts.pem"
PUBLIC_KEY_FILE = "receipts.pub"
RECEIPT_KEY_ENV = "BUCKLER_RECEIPT_KEY"
RECEIPTS = Role("receipts", PRIVATE_KEY_FILE, PUBLIC_KEY_FILE, RECEIPT_KEY_ENV)

SUBJECT = "input"  # name of the subject; a file's own name may name the patient


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A line of the audit log.

    Attributes:
        sequence: Its number.
        digest: ``sha256:…`` of the line with its line end.
    """

    sequence: int
    digest: str


def _check_answer(answer: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(answer.get("model"), dict) or not answer["model"].keys() >= {"name", "version", "digest"}:
        raise ValueError("expected a model with name, version and digest")
    if not answer.keys() >= {"label", "decision"}:
        raise ValueError("expected label and decision")
    return answer


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the service answered about one input.

    Attributes:
        input: ``sha256:…`` of the picture's bytes as the service received them.
        answer: The answer to the client, without the receipt itself.
        issued_at: Aware time, by the service's clock.
        audit: The answer's line in the audit log; None if the service keeps no log.
    """

    input: str
    answer: Annotated[dict[str, Any], AfterValidator(_check_answer)]
    issued_at: Time
    audit: AuditLine | None

    def is_about(self, subjects: Subjects) -> bool:
        """Return whether ``subjects`` is the answered input."""
        return subjects == {SUBJECT: self.input}

    @property
    def model_digest(self) -> str:
        """``sha256:…`` of the model directory that answered."""
        return str(self.answer["model"]["digest"])


DOCUMENT = SignedDocument("receipt", Receipt)


def generate_key_pair(directory: Path) -> None:
    """Write ``receipts.pem`` and ``receipts.pub`` into ``directory``.

    Raises:
        BucklerError: One of them exists; a key is never overwritten.
    """
    keys.generate_key_pair(directory, RECEIPTS)


def load_key(named: str | None) -> SigningKey | None:
    """Return the key that signs receipts; None without one.

    Args:
        named: File of the key, or URI of a key in hardware; default: the project's own file, if it exists.

    Raises:
        BucklerError: There is no such key, others can read it, or it signs verdicts or promotions, too; or its public
            half beside it is another's.
    """
    default = paths.KEYS / PRIVATE_KEY_FILE
    if named is None and not default.exists():
        return None
    key = keys.open_signing_key(named or str(default), named_by=RECEIPT_KEY_ENV)
    if named is None:
        keys.check_fits(key, RECEIPTS, str(default))
    if signs := _other_role(key):
        raise BucklerError(
            f"the key of receipts ({RECEIPT_KEY_ENV}) is the key that signs {signs}, which no service may have;"
            " remove it from this machine and create a receipt key with `buckler keys init --for receipts`"
        )
    return key


def _other_role(key: SigningKey) -> str | None:
    """Return what ``key`` signs besides receipts; None if nothing."""
    try:
        trusted = keys.load_trusted_keys()
    except BucklerError:  # without these keys the service loads no model either
        return None
    public = key.public_key()
    roles = {"verdicts": trusted.verdict, "promotions": trusted.promotion}
    return next((signs for signs, known in roles.items() if known.contain(public)), None)


def issue(
    answer: Mapping[str, Any],
    key: SigningKey,
    *,
    input_digest: str,
    moment: datetime,
    audit: tuple[int, str] | None,
) -> dict[str, Any]:
    """Return the envelope of a receipt.

    Args:
        answer: The answer to the client, without a receipt.
        key: Signs.
        input_digest: ``sha256:…`` of the picture's bytes as received.
        moment: Aware time of issue.
        audit: Sequence number and digest of the answer's line in the audit log; None without a log.
    """
    receipt = Receipt(input_digest, dict(answer), moment, AuditLine(*audit) if audit else None)
    return DOCUMENT.sign(receipt, {SUBJECT: input_digest}, key)


def verify(path: Path, image: Path, public_keys: PublicKeys, *, model_digest: str | None = None) -> Receipt:
    """Return the receipt in ``path`` if it is valid and about the picture in ``image``.

    Args:
        path: The whole answer with its ``receipt``, or the receipt alone. Every field of an answer must be as signed.
        image: The picture's file, byte for byte as it was sent.
        public_keys: Public keys of the service, of which one must have signed it.
        model_digest: Digest of the model that must have answered; default: any.

    Raises:
        ReceiptError: Signature, picture, model or the answer beside the receipt do not match.
        BucklerError: A file cannot be read.
    """
    try:
        content, picture = path.read_bytes(), digests.file_digest(image)
    except OSError as error:
        raise BucklerError(f"cannot read {error.filename}: {error.strerror}") from error
    return check(content, picture, public_keys, model_digest=model_digest, named=(str(path), str(image)))


def check(
    content: bytes,
    picture: str,
    public_keys: PublicKeys,
    *,
    model_digest: str | None = None,
    named: tuple[str, str],
) -> Receipt:
    """Return the receipt in an answer if it is valid and about the picture with the digest ``picture``.

    Args:
        content: JSON, like the file that ``verify`` reads.
        picture: ``sha256:…`` of the bytes that were sent.
        public_keys, model_digest: As in ``verify``.
        named: Names of the answer and the picture in errors.

    Raises:
        ReceiptError: As ``verify``.
    """
    receipt = _open(content, named[0], public_keys)
    if receipt.input != picture:
        raise ReceiptError(f"the receipt is about a picture {receipt.input}, {named[1]} is {picture}")
    if model_digest is not None and receipt.model_digest != model_digest:
        raise ReceiptError(f"expected an answer of model {model_digest}, the receipt names {receipt.model_digest}")
    return receipt


def _open(content: bytes, path: str, public_keys: PublicKeys) -> Receipt:
    try:
        given = parse_object(content, path)
        alone = "payload" in given
        envelope = given if alone else given.pop("receipt", None)
        if envelope is None:
            raise ReceiptError(f"{path} contains no receipt; request one with the header X-Buckler-Receipt: ed25519")
        receipt = DOCUMENT.open(envelope, public_keys).predicate
    except VerdictError as error:
        raise ReceiptError(f"{path}: {error}") from error
    if not alone and given != receipt.answer:
        names = sorted(given.keys() | receipt.answer.keys())
        differing = [name for name in names if given.get(name) != receipt.answer.get(name)]
        raise ReceiptError(f"{path}: the answer beside the receipt differs from the signed one in {differing}")
    return receipt
