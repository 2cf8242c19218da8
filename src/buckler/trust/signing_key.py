"""What signs a document: a private key in memory, or one in a device that never leaves it."""

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class SigningKey(Protocol):
    """An Ed25519 key that signs; `Ed25519PrivateKey` is one."""

    def sign(self, data: bytes, /) -> bytes:
        """Return the Ed25519 signature of ``data``, 64 bytes."""
        ...

    def public_key(self) -> Ed25519PublicKey:
        """Return the key that verifies the signatures."""
        ...
