"""Public keys that verify: several for each role while a key is replaced, and never those of another role."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
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


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # of a person: part of a file's name and of a tag's


@dataclass(frozen=True, slots=True)
class Approvers:
    """The people whose approvals of a promotion count here, and how many of them each promotion needs.

    Attributes:
        keys: Name of a person -> her public keys: several while she replaces one.
        required: Number of people, whatever the verdict demands.
        problem: Why it is not known who may approve; nobody does then.
    """

    keys: Mapping[str, PublicKeys] = field(default_factory=dict)
    required: int = 0
    problem: str = ""

    def __post_init__(self) -> None:
        """Reject names that are no names, a key under two names, and a negative number."""
        if wrong := [name for name in self.keys if not re.fullmatch(NAME, name)]:
            raise ValueError(f"expected names of letters, digits and `._-`, got {wrong}")
        raw = list(chain.from_iterable(each.raw for each in self.keys.values()))
        if twice := sorted({_id_of(key) for key in raw if raw.count(key) > 1}):
            raise ValueError(f"expected a key under one name, got {twice[0]} under two: a person approves once")
        if self.required < 0:
            raise ValueError(f"expected a number of people of at least 0, got {self.required}")

    @property
    def id(self) -> str:
        """Identifies people, keys and number."""
        people = ",".join(f"{name}={keys.id}" for name, keys in sorted(self.keys.items()))
        return f"{self.required}:{people}:{self.problem}"


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The public keys that verify what is signed about a model, by their role.

    Attributes:
        verdict: Verify verdicts, and nothing else.
        promotion: Verify promotions, standings and recoveries, and nothing else.
        approvers: Verify approvals of promotions, and nothing else.
    """

    verdict: PublicKeys
    promotion: PublicKeys
    approvers: Approvers = field(default_factory=Approvers)

    @classmethod
    def same(cls, keys: PublicKeys) -> "TrustedKeys":
        """Return ``keys`` for both roles, as installations without a promotion key have it."""
        return cls(keys, keys)

    @property
    def id(self) -> str:
        """Identifies the keys of all roles, and the number of approvals that is needed."""
        return f"{self.verdict.id};{self.promotion.id};{self.approvers.id}"
