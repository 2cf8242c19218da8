"""Public keys that verify: several for each role while a key is replaced, and never those of another role."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.errors import BucklerError

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\n?", re.DOTALL)


def key_id(key: Ed25519PublicKey) -> str:
    """Return ``sha256:…`` of the raw public key; an identifier for people and for key selection, not a proof."""
    return _id_of(key.public_bytes_raw())


def public_pem(key: Ed25519PublicKey) -> bytes:
    """Return a public key in the PEM form of its file."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _id_of(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """One or more public keys, of which any verifies.

    Attributes:
        raw: The keys, 32 bytes each, in the order of their file.
    """

    raw: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not self.raw or len(set(self.raw)) != len(self.raw):
            raise ValueError(f"expected one or more different public keys, got {len(self.raw)}")

    @classmethod
    def of(cls, *keys: Ed25519PublicKey) -> "PublicKeys":
        """Return the set of ``keys``; a repeated key counts once."""
        return cls(tuple(dict.fromkeys(key.public_bytes_raw() for key in keys)))

    @classmethod
    def parse(cls, content: bytes, path: Path) -> "PublicKeys":
        """Return the keys of a file with one or more PEM blocks.

        Args:
            content: The file's bytes.
            path: Its path, for errors.

        Raises:
            BucklerError: A block is no Ed25519 public key, there is none, or there is anything else between them.
        """
        blocks = [match.group() for match in _BLOCK.finditer(content)]
        if not blocks or _BLOCK.sub(b"", content).strip():
            raise BucklerError(f"{path} is not a public key in PEM form; expected one or more blocks of PUBLIC KEY")
        found = []
        for block in blocks:
            try:
                key = serialization.load_pem_public_key(block)
            except (ValueError, UnsupportedAlgorithm) as error:
                raise BucklerError(f"{path} is not a public key in PEM form: {error}") from error
            if not isinstance(key, Ed25519PublicKey):
                raise BucklerError(f"expected an Ed25519 public key in {path}, got {type(key).__name__}")
            found.append(key)
        return cls.of(*found)

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of each key, in order."""
        return tuple(map(_id_of, self.raw))

    @property
    def id(self) -> str:
        """Identifies the set: the ids of its keys."""
        return ",".join(sorted(self.ids))

    @property
    def pem(self) -> bytes:
        """The content of their file."""
        return b"".join(public_pem(Ed25519PublicKey.from_public_bytes(raw)) for raw in self.raw)

    def get(self, key: str) -> Ed25519PublicKey | None:
        """Return the key with the id ``key``; None if it is not one of them."""
        found = dict(zip(self.ids, self.raw, strict=True)).get(key)
        return Ed25519PublicKey.from_public_bytes(found) if found else None

    def contain(self, key: Ed25519PublicKey) -> bool:
        """Return whether ``key`` is one of them."""
        return key.public_bytes_raw() in self.raw

    def joined(self, other: "PublicKeys") -> "PublicKeys":
        """Return the keys of both."""
        return PublicKeys(tuple(dict.fromkeys((*self.raw, *other.raw))))

    def without(self, key: str) -> "PublicKeys":
        """Return the keys except that with the id ``key``, of which there must be another."""
        return PublicKeys(tuple(raw for raw in self.raw if _id_of(raw) != key))

    def only(self, key: str) -> "PublicKeys":
        """Return the key with the id ``key``, which is one of them."""
        return PublicKeys(tuple(raw for raw in self.raw if _id_of(raw) == key))

    def __str__(self) -> str:
        return " or ".join(self.ids)


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The public keys that verify what is signed about a model, by their role.

    Attributes:
        verdict: Verify verdicts, and nothing else.
        promotion: Verify promotions, standings and recoveries, and nothing else.
    """

    verdict: PublicKeys
    promotion: PublicKeys

    @classmethod
    def same(cls, keys: PublicKeys) -> "TrustedKeys":
        """Return ``keys`` for both roles, as installations without a promotion key have it."""
        return cls(keys, keys)

    @property
    def id(self) -> str:
        """Identifies the keys of all roles."""
        return f"{self.verdict.id};{self.promotion.id}"
