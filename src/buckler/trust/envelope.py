"""DSSE envelopes: a payload, its type and its signatures.

Source: https://github.com/secure-systems-lab/dsse, protocol 1.0.
"""

import base64
import binascii
import json
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature

from buckler.errors import VerdictError
from buckler.trust.digests import canonical
from buckler.trust.public_keys import PublicKeys, key_id
from buckler.trust.signing_key import SigningKey

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


def shown(value: object) -> str:
    """Return ``value`` for a message, shortened: what nobody has signed could fill the log."""
    return _SHORT.repr(value)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes to sign: type and payload, each after its length, so that every pair has its own encoding.

    Source: DSSE v1 protocol, "PAE".
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True)
class OpenedEnvelope:
    """What an envelope contains.

    Attributes:
        payload_type: Type of the payload.
        payload: The signed bytes.
        signers: Ids of the keys whose signatures are valid, in the order of the keys that were asked for.
    """

    payload_type: str
    payload: bytes
    signers: tuple[str, ...]


def sign(statement: Mapping[str, Any], key: SigningKey, *, payload_type: str) -> dict[str, Any]:
    """Return the DSSE envelope of ``statement``; the type is signed too, so no kind of document passes for another."""
    payload = canonical(statement)
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }


def joined(envelopes: Iterable[tuple[Mapping[str, Any], Iterable[str]]]) -> dict[str, Any]:
    """Return one envelope of a payload with the valid signatures of several, one for each key.

    Args:
        envelopes: One or more, each with the keys whose signatures in it are valid, as `open_payload` returns them.

    Raises:
        ValueError: The envelopes have different payloads or types.
    """
    whole = [(sealed, set(signers)) for sealed, signers in envelopes]
    contents = {(sealed["payload"], sealed["payloadType"]) for sealed, _ in whole}
    if len(contents) != 1:
        raise ValueError(f"expected envelopes of one payload, got {len(contents)} different ones")
    ((payload, payload_type),) = contents
    valid = {
        entry["keyid"]: dict(entry)
        for sealed, signers in whole
        for entry in sealed["signatures"]
        if entry["keyid"] in signers
    }
    signatures = [valid[key] for key in sorted(valid)]
    return {"payload": payload, "payloadType": payload_type, "signatures": signatures}


def open_payload(envelope: object, public_keys: PublicKeys, *, payload_types: tuple[str, ...]) -> OpenedEnvelope:
    """Return the payload of one of ``payload_types``, and which of ``public_keys`` signed it: at least one.

    Signatures of other keys are ignored, as DSSE says. Who needs several signatures counts the signers.

    Raises:
        VerdictError: ``malformed``, also for two signatures of one key; or ``signature``.
    """
    if not isinstance(envelope, dict) or set(envelope) != {"payload", "payloadType", "signatures"}:
        raise VerdictError("malformed", "expected a DSSE envelope with payload, payloadType and signatures")
    payload_type = envelope["payloadType"]
    if payload_type not in payload_types:
        raise VerdictError("malformed", f"expected payloadType {payload_types[0]!r}, got {shown(payload_type)}")
    payload = _decode(envelope["payload"])
    signatures = _signatures(envelope["signatures"])
    signers = _signers(signatures, public_keys, pre_authentication_encoding(payload_type, payload))
    return OpenedEnvelope(payload_type, payload, signers)


def _signers(signatures: dict[str, bytes], public_keys: PublicKeys, signed: bytes) -> tuple[str, ...]:
    known = [key for key in public_keys.ids if key in signatures]
    if not known:
        raise VerdictError(
            "signature",
            f"expected a signature of key {public_keys}, got {shown(sorted(signatures))}; was it signed by another"
            " project, or with a key of another role?",
        )
    valid = tuple(key for key in known if _verifies(public_keys, key, signatures[key], signed))
    if not valid:
        raise VerdictError("signature", f"the signature of key {' or '.join(known)} does not match the statement")
    return valid


def _verifies(public_keys: PublicKeys, key: str, signature: bytes, signed: bytes) -> bool:
    public_key = public_keys.get(key)
    try:
        if public_key is not None:
            public_key.verify(signature, signed)
    except InvalidSignature:
        return False
    return public_key is not None


def _signatures(entries: object) -> dict[str, bytes]:
    if not isinstance(entries, list) or not entries:
        raise VerdictError("malformed", f"expected a list of signatures, got {shown(entries)}")
    signatures: dict[str, bytes] = {}
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {"keyid", "sig"} or not isinstance(entry["keyid"], str):
            raise VerdictError("malformed", "expected signatures with keyid and sig")
        if entry["keyid"] in signatures:
            raise VerdictError("malformed", f"expected one signature of each key, got two of {shown(entry['keyid'])}")
        signatures[entry["keyid"]] = _decode(entry["sig"])
    return signatures


def _decode(text: object) -> bytes:
    try:
        if not isinstance(text, str):
            raise ValueError(f"got {type(text).__name__}")
        content = base64.b64decode(text, validate=True)
        # Base64 has unused bits before its padding, so several texts decode to the same bytes; accept only one of them.
        if base64.b64encode(content).decode() != text:
            raise ValueError("not in canonical form")
    except (ValueError, binascii.Error) as error:
        raise VerdictError("malformed", f"expected base64 text in the envelope: {error}") from error
    return content


def parse_object(content: bytes | str, what: str) -> dict[str, Any]:
    """Return the JSON object in ``content``; ``what`` names it in the error.

    Raises:
        VerdictError: ``malformed``: not UTF-8, not JSON, not an object, or a duplicate key.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("duplicate key")
        return dict(pairs)

    try:
        # A text from other JSON, such as a tag of the registry, can contain half a character, which has no bytes.
        encoded = content.encode() if isinstance(content, str) else content
        values = json.loads(encoded, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise VerdictError("malformed", f"{what} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise VerdictError("malformed", f"expected {what} to be a JSON object, got {type(values).__name__}")
    return values
