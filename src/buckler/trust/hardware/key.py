"""An Ed25519 key in a PKCS#11 token. The private key is created there and never leaves it."""

import secrets
from collections.abc import Callable
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, Object, ObjectClass, PKCS11Error, Session
from pkcs11.types import PrivateKey, SignMixin

from buckler.errors import BucklerError
from buckler.trust.hardware.session import MissingError, describe, module_of
from buckler.trust.hardware.uri import KeyUri

# PKCS#11 3.0, section 2.3.5: the curve as an object identifier (RFC 8410, and the earlier one) or as a name.
ED25519 = bytes.fromhex("06032b6570")
_CURVES = (ED25519, bytes.fromhex("06092b06010401da470f01"), b"\x13\x0cedwards25519")
# The public point: bare, or in a DER octet string or bit string, depending on the module's version of the standard.
_POINT_HEADS = (b"", b"\x04\x20", b"\x03\x21\x00")
_POINT_BYTES = 32

T = TypeVar("T")


class TokenKey:
    """A signing key in a token; it is searched for each signature, so a token that was exchanged is noticed."""

    def __init__(self, uri: KeyUri) -> None:
        """Find the key that ``uri`` names.

        Raises:
            BucklerError: Module, token or PIN cannot be used; or there is not one Ed25519 key that can sign.
        """
        self._uri = uri
        self._public = _do(uri, lambda session: _check(session, uri))

    def __repr__(self) -> str:
        return f"TokenKey({self._uri.token_name} {self._uri.key_name})"

    def public_key(self) -> Ed25519PublicKey:
        """Return the public half, which the token told when the key was loaded."""
        return self._public

    def sign(self, data: bytes) -> bytes:
        """Return the signature of ``data``, 64 bytes.

        Raises:
            BucklerError: Module, token, PIN or key cannot be used any more; or the signature is not valid.
        """
        signature = _do(
            self._uri, lambda session: _private_key(session, self._uri).sign(data, mechanism=Mechanism.EDDSA)
        )
        try:
            self._public.verify(signature, data)
        except InvalidSignature as error:
            raise BucklerError(
                f"the key with {self._uri.key_name} signs, but not for the public key that was read when it was loaded;"
                " has the token been exchanged, or does another public key have the same name?"
            ) from error
        return signature


def create(uri: KeyUri) -> TokenKey:
    """Create the key pair that ``uri`` names in the token, and return it.

    Raises:
        BucklerError: As `TokenKey`; or there is an object of this name, which is never overwritten; or the token cannot
            create such a key.
    """
    if uri.label is None:
        raise BucklerError("expected object=LABEL in the URI of a new key")
    _do(uri, lambda session: _generate(session, uri), writes=True)
    return TokenKey(uri)


def _do(uri: KeyUri, work: Callable[[Session], T], *, writes: bool = False) -> T:
    try:
        return module_of(uri).use(uri, work, writes=writes)
    except PKCS11Error as error:
        raise BucklerError(
            f"the token with {uri.token_name} failed at the key with {uri.key_name}: {describe(error)}"
        ) from error


def _sign(session: Session, uri: KeyUri, data: bytes) -> bytes:
    return bytes(_private_key(session, uri).sign(data, mechanism=Mechanism.EDDSA))


def _check(session: Session, uri: KeyUri) -> Ed25519PublicKey:
    if Mechanism.EDDSA not in session.token.slot.get_mechanisms():
        raise BucklerError(f"the token with {uri.token_name} cannot sign with Ed25519 (CKM_EDDSA)")
    private = _private_key(session, uri)
    if private[Attribute.EXTRACTABLE] or not private[Attribute.SENSITIVE]:
        raise BucklerError(
            f"the key with {uri.key_name} may leave its token (CKA_EXTRACTABLE, CKA_SENSITIVE);"
            " create one with `buckler keys init --pkcs11 URI`"
        )
    if _always_authenticates(private):
        raise BucklerError(f"the key with {uri.key_name} asks for the PIN at each signature, which is not supported")
    return _public_key(session, uri)


def _always_authenticates(key: Object) -> bool:
    try:
        return bool(key[Attribute.ALWAYS_AUTHENTICATE])
    except PKCS11Error:  # older tokens do not know the attribute
        return False


def _private_key(session: Session, uri: KeyUri) -> SignMixin:
    key = _only(session, uri, ObjectClass.PRIVATE_KEY)
    if not isinstance(key, PrivateKey) or key.key_type is not KeyType.EC_EDWARDS:
        raise BucklerError(f"expected an Ed25519 key with {uri.key_name} in the token, got {_type_of(key)}")
    if not isinstance(key, SignMixin):
        raise BucklerError(f"the key with {uri.key_name} may not sign (CKA_SIGN is false)")
    return key


def _public_key(session: Session, uri: KeyUri) -> Ed25519PublicKey:
    key = _only(session, uri, ObjectClass.PUBLIC_KEY)
    if key[Attribute.EC_PARAMS] not in _CURVES:
        raise BucklerError(f"expected a key with {uri.key_name} on the curve of Ed25519, got another curve")
    return Ed25519PublicKey.from_public_bytes(point_of(key[Attribute.EC_POINT]))


def point_of(encoded: bytes) -> bytes:
    """Return the 32 bytes of a public key from the attribute ``CKA_EC_POINT``.

    Raises:
        BucklerError: It has another form.
    """
    for head in _POINT_HEADS:
        if len(encoded) == len(head) + _POINT_BYTES and encoded.startswith(head):
            return encoded[len(head) :]
    raise BucklerError(
        f"expected the {_POINT_BYTES} bytes of an Ed25519 public key in CKA_EC_POINT, got {len(encoded)}"
    )


def _only(session: Session, uri: KeyUri, kind: ObjectClass) -> Object:
    found = _objects(session, uri, kind)
    if len(found) != 1:
        what = "private" if kind is ObjectClass.PRIVATE_KEY else "public"
        raise MissingError(
            f"expected one {what} key with {uri.key_name} in the token with {uri.token_name}, found {len(found)}"
            + ("; add id= to the URI" if found else "; `buckler keys init --pkcs11 URI` creates a pair")
        )
    return found[0]


def _objects(session: Session, uri: KeyUri, kind: ObjectClass) -> list[Object]:
    template: dict[Attribute, Any] = {Attribute.CLASS: kind}
    if uri.label is not None:
        template[Attribute.LABEL] = uri.label
    if uri.id is not None:
        template[Attribute.ID] = uri.id
    return list(session.get_objects(template))


def _type_of(key: Object) -> str:
    try:
        return KeyType(key[Attribute.KEY_TYPE]).name
    except (PKCS11Error, ValueError):
        return "another type"


def _generate(session: Session, uri: KeyUri) -> None:
    for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
        if _objects(session, uri, kind):
            raise BucklerError(
                f"the token with {uri.token_name} has a key with {uri.key_name}, which is never overwritten;"
                " choose another label (a new key does not verify what the old one signed)"
            )
    if Mechanism.EC_EDWARDS_KEY_PAIR_GEN not in session.token.slot.get_mechanisms():
        raise BucklerError(f"the token with {uri.token_name} cannot create Ed25519 keys (CKM_EC_EDWARDS_KEY_PAIR_GEN)")
    curve = session.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: ED25519}, local=True)
    curve.generate_keypair(
        store=True,
        label=uri.label,
        id=uri.id or secrets.token_bytes(8),  # tools pair the two halves by it
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
