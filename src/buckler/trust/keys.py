"""Ed25519 keys: default paths, reading and writing."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.errors import BucklerError
from buckler.state import paths

PRIVATE_KEY_FILE = "verdict.pem"
PUBLIC_KEY_FILE = "verdict.pub"
SIGNING_KEY_ENV = "BUCKLER_SIGNING_KEY"
VERDICT_KEY_ENV = "BUCKLER_VERDICT_KEY"


def private_key_path() -> Path:
    """Return the path of the signing key: ``BUCKLER_SIGNING_KEY``, else the project's default."""
    return Path(os.environ.get(SIGNING_KEY_ENV) or paths.KEYS / PRIVATE_KEY_FILE)


def public_key_path() -> Path:
    """Return the path of the key that verifies verdicts: ``BUCKLER_VERDICT_KEY``, else the project's default."""
    return Path(os.environ.get(VERDICT_KEY_ENV) or paths.KEYS / PUBLIC_KEY_FILE)


def generate_key_pair(
    directory: Path, *, private_file: str = PRIVATE_KEY_FILE, public_file: str = PUBLIC_KEY_FILE
) -> None:
    """Write a private key, readable by its owner only, and its public half into ``directory``.

    Raises:
        BucklerError: One of the files exists; keys are never overwritten.
    """
    private, public = directory / private_file, directory / public_file
    for path in (private, public):
        if path.exists():
            raise BucklerError(
                f"{path} exists and is never overwritten; move it away to make a new pair"
                " (a new key does not verify what the old one signed)"
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
    """Return a public key in the PEM form of its file."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    # The mode goes to open(2): between a write and a chmod the private key would be readable by others.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def load_private_key(path: Path | None = None, *, named_by: str = SIGNING_KEY_ENV) -> Ed25519PrivateKey:
    """Return the signing key in ``path`` (default ``private_key_path()``).

    Args:
        path: A PEM file.
        named_by: The variable or option that sets the path, for the error message.

    Raises:
        BucklerError: The file is missing or is not an unencrypted Ed25519 key in PEM form.
    """
    path = path or private_key_path()
    try:
        key = serialization.load_pem_private_key(_read_key(path, named_by), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BucklerError(f"{path} is not an unencrypted private key in PEM form: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BucklerError(f"expected an Ed25519 private key in {path}, got {type(key).__name__}")
    return key


def load_public_key(path: Path | None = None, *, named_by: str = VERDICT_KEY_ENV) -> Ed25519PublicKey:
    """Return the public key in ``path`` (default ``public_key_path()``) that verifies signatures.

    Args:
        path: A PEM file.
        named_by: The variable or option that sets the path, for the error message.

    Raises:
        BucklerError: The file is missing or is not an Ed25519 public key in PEM form.
    """
    path = path or public_key_path()
    try:
        key = serialization.load_pem_public_key(_read_key(path, named_by))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BucklerError(f"{path} is not a public key in PEM form: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BucklerError(f"expected an Ed25519 public key in {path}, got {type(key).__name__}")
    return key


def _read_key(path: Path, named_by: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BucklerError(
            f"cannot read the key {path} ({error.strerror}); `buckler keys init` creates a pair,"
            f" {named_by} names another file"
        ) from error


def load_or_create_private_key() -> tuple[Ed25519PrivateKey, bool]:
    """Return the signing key and whether it was created.

    Only the project's default pair is ever created: a ``BUCKLER_SIGNING_KEY`` that names no file is an error.

    Raises:
        BucklerError: As ``load_private_key``; or only the public half exists: the project trusts a key of another
            owner, and a new pair would replace it.
    """
    path = private_key_path()
    if path.exists() or os.environ.get(SIGNING_KEY_ENV):
        return load_private_key(path), False
    generate_key_pair(paths.KEYS)
    return load_private_key(path), True


def key_id(key: Ed25519PublicKey) -> str:
    """Return ``sha256:…`` of the raw public key; an identifier for people and for key selection, not a proof."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Keys:
    """A pair of keys: the given one, else that of the project's files, which are read at each use."""

    pair: Ed25519PrivateKey | None = field(default=None, repr=False)

    def public(self) -> Ed25519PublicKey:
        """Return the key that verifies signatures; raises as `load_public_key`."""
        return self.pair.public_key() if self.pair else load_public_key()

    def private(self) -> Ed25519PrivateKey:
        """Return the key that signs; raises as `load_private_key`."""
        return self.pair or load_private_key()
