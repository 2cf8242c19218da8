"""Fuzz targets: signed documents, before and behind the signature."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import ReceiptError, VerdictError
from buckler.trust import approval, earlier, promotion, recovery, signed, standing, verdict
from buckler.trust import receipt as receipts
from buckler.trust.document import PAYLOAD_TYPE, OpenedDocument, SignedDocument
from buckler.trust.envelope import parse_object
from buckler.trust.public_keys import PublicKeys, key_id
from tests.fuzz.contract import require
from tests.fuzz.mutation import of_json

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = KEY.public_key()
PUBLIC = PublicKeys.of(PUBLIC_KEY)
MODEL, REGISTRY = "skin", "local"
LONGEST_MESSAGE = 1_000  # bytes, about a document that nobody signed
NOW = datetime(2026, 6, 1, tzinfo=UTC)
KINDS: dict[str, SignedDocument[Any]] = {
    "verdict": verdict.DOCUMENT,
    "promotion": promotion.DOCUMENT,
    "standing": standing.DOCUMENT,
    "receipt": receipts.DOCUMENT,
    "recovery": recovery.DOCUMENT,
    "approval": approval.DOCUMENT,
}
TYPES = {
    kind: {"new": PAYLOAD_TYPE, "old": earlier.payload_type(kind)} for kind in KINDS
}  # first line of an input: kind and type


def seal(payload: bytes, payload_type: str) -> dict[str, Any]:
    """Return an envelope of any bytes with a valid signature."""
    signature = KEY.sign(_signed_bytes(payload_type.encode(), payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": key_id(PUBLIC_KEY), "sig": base64.b64encode(signature).decode()}],
    }


def envelope(data: bytes) -> bool:
    """Any bytes as an envelope."""
    try:
        sealed = parse_object(data, "the document")
    except VerdictError as error:
        _check(error, {"malformed"}, longest=LONGEST_MESSAGE)
        return False
    opened = [_open(document, sealed, longest=LONGEST_MESSAGE) for document in KINDS.values()]
    return any(opened)


def documents(data: bytes) -> bool:
    """Any statement of any kind with a valid signature: the first line is the kind and the age of its form."""
    line, payload = split(data)
    kind, _, age = line.decode("latin-1").strip().partition(" ")
    return kind in TYPES and age in TYPES[kind] and _open(KINDS[kind], seal(payload, TYPES[kind][age]))


def records(data: bytes) -> bool:
    """A tag of the registry: any text, or any statement in a valid envelope, as its first line says."""
    line, rest = split(data)
    text = rest.decode("utf-8", "surrogateescape")  # JSON from a registry can contain half a character
    longest: int | None = LONGEST_MESSAGE
    kind, _, age = line.decode("latin-1").strip().partition(" ")
    if kind in TYPES and age in TYPES[kind]:
        text, longest = json.dumps(seal(rest, TYPES[kind][age])), None
    for accepts_earlier in (True, False):
        try:
            found = signed.read(text, PUBLIC, model=MODEL, registry=REGISTRY, earlier=accepts_earlier)
        except VerdictError as error:
            _check(error, {"malformed", "signature"}, longest=longest)
        else:
            require(found.record.model == MODEL, "a record about another model")
            signed.Records.of([found, found])
    number = signed.number(text, PUBLIC, model=MODEL, registry=REGISTRY)
    require(number >= 0, "a negative number")
    named: dict[str, Any] = {"model_name": MODEL, "registry": REGISTRY}
    for read, arguments, reason in (
        (promotion.read_latest, named, "not_promoted"),
        (promotion.read, {**named, "version": "3"}, "not_promoted"),
        (standing.read, {**named, "version": "3"}, "standing"),
    ):
        try:
            record = read(text, PUBLIC, **arguments)
        except VerdictError as error:
            _check(error, {reason}, longest=longest)
        else:
            require(record.model == MODEL, "a record about another model")
    return number > 0


def _picture(payload: bytes) -> str:
    """Return the digest of the picture that a receipt is checked against."""
    try:
        return str(json.loads(payload)["predicate"]["input"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"sha256:{64 * '0'}"


def _answer(data: bytes) -> bytes:
    """Return an answer: the first line, with the other lines as its receipt, in a valid envelope."""
    answer, payload = split(data)
    try:
        content = json.loads(answer)
    except (ValueError, RecursionError):
        return data
    if not isinstance(content, dict):
        return data
    return json.dumps({**content, "receipt": seal(payload, PAYLOAD_TYPE)}).encode()


def receipt(data: bytes) -> bool:
    """An answer in the first line, and the statement of its receipt."""
    content, picture = _answer(data), _picture(split(data)[1])
    try:
        found = receipts.check(content, picture, PUBLIC, model_digest=None, named=("the answer", "the picture"))
    except ReceiptError:
        return False
    require(found.input == picture, "a receipt about another picture")
    beside = {name: value for name, value in json.loads(content).items() if name != "receipt"}
    require("payload" in beside or beside == found.answer, "another answer than the signed one")
    require(found.model_digest, "no model")
    return True


def split(data: bytes) -> tuple[bytes, bytes]:
    """Return the first line with its end, and the rest."""
    line, end, rest = data.partition(b"\n")
    return line + end, rest


def _open(document: SignedDocument[Any], sealed: dict[str, Any], *, longest: int | None = None) -> bool:
    """Open a document and check it; return whether it was accepted."""
    try:
        found = document.open(sealed, PUBLIC)
    except VerdictError as error:
        _check(error, {"malformed", "signature"}, longest=longest)
        return False
    _check_signature(sealed, found)
    again = document.open(document.sign(found.predicate, found.subjects, KEY), PUBLIC)
    require(
        (again.predicate, again.subjects) == (found.predicate, found.subjects), "another document once signed again"
    )
    if isinstance(found.predicate, verdict.Judgement):
        found.predicate.expired(NOW)  # compares with a time of any zone
    return True


def _check_signature(sealed: dict[str, Any], found: OpenedDocument[Any]) -> None:
    """Check with code that is not Buckler's that the document's bytes are the signed ones."""
    payload = base64.b64decode(sealed["payload"], validate=True)
    require(base64.b64encode(payload).decode() == sealed["payload"], "the payload is not encoded canonically")
    require(found.digest == f"sha256:{hashlib.sha256(payload).hexdigest()}", "the digest of another payload")
    own = [each for each in sealed["signatures"] if each["keyid"] == key_id(PUBLIC_KEY)]
    signature = base64.b64decode(own[-1]["sig"], validate=True)
    PUBLIC_KEY.verify(signature, _signed_bytes(sealed["payloadType"].encode(), payload))


def _signed_bytes(kind: bytes, payload: bytes) -> bytes:
    return b" ".join((b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload))


def _check(error: VerdictError, reasons: set[str], *, longest: int | None = None) -> None:
    require(error.reason in reasons, f"unexpected reason {error.reason}")
    message = str(error).encode()  # it is logged, so it must not contain half a character
    require(longest is None or len(message) <= longest, f"a message of {len(message)} bytes")


MUTATORS = {
    "envelope": of_json(),
    "documents": of_json(split),
    "records": of_json(split),
    "receipt": of_json(split),
}
