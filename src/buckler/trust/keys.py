"""Ed25519 keys by their role: where they are, reading and writing.

Verdicts and promotions have a pair each. A project without a promotion key, as before there was one, uses the verdict
key for both.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import BucklerError
from buckler.state import paths
from buckler.trust import approvers, hardware
from buckler.trust.public_keys import NAME, PublicKeys, TrustedKeys, key_id, public_pem
from buckler.trust.signing_key import SigningKey

PRIVATE_KEY_FILE = "verdict.pem"
PUBLIC_KEY_FILE = "verdict.pub"
SIGNING_KEY_ENV = "BUCKLER_SIGNING_KEY"
VERDICT_KEY_ENV = "BUCKLER_VERDICT_KEY"
PROMOTION_PRIVATE_FILE = "promotion.pem"
PROMOTION_PUBLIC_FILE = "promotion.pub"
PROMOTION_SIGNING_KEY_ENV = "BUCKLER_PROMOTION_SIGNING_KEY"
PROMOTION_KEY_ENV = "BUCKLER_PROMOTION_KEY"
APPROVAL_KEY_ENV = "BUCKLER_APPROVAL_KEY"


@dataclass(frozen=True, slots=True)
class Role:
    """What a key pair signs, and where its keys are.

    Attributes:
        name: What it signs, as `buckler keys init --for` names it.
        private_file: Name of the private key's file in the directory of keys.
        public_file: Name of the file with the public keys.
        signing_env: Variable that names another private key.
        public_env: Variable that names another file of public keys; empty without one.
    """

    name: str
    private_file: str
    public_file: str
    signing_env: str
    public_env: str = ""

    @property
    def signing_key(self) -> str | None:
        """What names the private key: the variable's value, else the project's file; None without either."""
        default = paths.KEYS / self.private_file
        return os.environ.get(self.signing_env) or (str(default) if default.exists() else None)

    @property
    def public_keys(self) -> Path | None:
        """File of the public keys: the variable's value, else the project's; None without either."""
        default = paths.KEYS / self.public_file
        named = os.environ.get(self.public_env) if self.public_env else None
        return Path(named) if named else default if default.exists() else None


VERDICTS = Role("verdicts", PRIVATE_KEY_FILE, PUBLIC_KEY_FILE, SIGNING_KEY_ENV, VERDICT_KEY_ENV)
PROMOTIONS = Role(
    "promotions", PROMOTION_PRIVATE_FILE, PROMOTION_PUBLIC_FILE, PROMOTION_SIGNING_KEY_ENV, PROMOTION_KEY_ENV
)


def approvals_by(person: str) -> Role:
    """Return the role of a person's pair, which is in the directory of approvers.

    Raises:
        BucklerError: The name cannot be part of a file's name and of a tag's.
    """
    if not re.fullmatch(NAME, person):
        raise BucklerError(f"expected a name of at most 64 letters, digits and `._-`, got {person!r}")
    return Role("approvals", f"{person}.pem", f"{person}.pub", APPROVAL_KEY_ENV)


# --- create


def generate_key_pair(directory: Path, *roles: Role) -> None:
    """Write a private key, readable by its owner only, and its public half into ``directory``.

    Args:
        directory: Created if missing.
        roles: A pair for each; default: verdicts.

    Raises:
        BucklerError: One of the files exists; keys are never overwritten.
    """
    roles = roles or (VERDICTS,)
    _prepare(directory, *roles)
    for role in roles:
        key = Ed25519PrivateKey.generate()
        _write_new(directory / role.private_file, private_pem(key), mode=0o600)
        _write_new(directory / role.public_file, public_pem(key.public_key()), mode=0o644)


def create_in_token(uri: str, directory: Path, role: Role) -> None:
    """Create the pair that ``uri`` names in its token, and write the public half into ``directory``.

    Args:
        uri: A ``pkcs11:`` URI.
        directory: Created if missing.
        role: What the pair signs.

    Raises:
        BucklerError: As `hardware.create_key`; or a file of this role exists.
    """
    _prepare(directory, role)
    _write_new(directory / role.public_file, public_pem(hardware.create_key(uri).public_key()), mode=0o644)


def _prepare(directory: Path, *roles: Role) -> None:
    """Create ``directory`` if it has no file of these roles."""
    for path in (directory / name for role in roles for name in (role.private_file, role.public_file)):
        if path.exists():
            raise BucklerError(
                f"{path} exists and is never overwritten; move it away to make a new pair"
                " (a new key does not verify what the old one signed)"
            )
    directory.mkdir(parents=True, exist_ok=True)


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """Return a private key in the PEM form of its file, unencrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_new(path: Path, content: bytes, mode: int) -> None:
    # The mode goes to open(2): between a write and a chmod the private key would be readable by others.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def load_or_create_signing_key() -> tuple[SigningKey, bool]:
    """Return the key that signs verdicts, and whether it was created, with a promotion key where there is none.

    Only the project's default pairs are ever created: a ``BUCKLER_SIGNING_KEY`` that names no file is an error.

    Raises:
        BucklerError: As `load_signing_key`; or only the public half exists: the project trusts a key of another
            owner, and a new pair would replace it.
    """
    if VERDICTS.signing_key:
        return load_signing_key(), False
    promotions = () if PROMOTIONS.signing_key or PROMOTIONS.public_keys else (PROMOTIONS,)
    # The verdict key last: it is the one whose presence ends the creation, which may be interrupted.
    generate_key_pair(paths.KEYS, *promotions, VERDICTS)
    return load_signing_key(), True


# --- read


def load_signing_key(role: Role = VERDICTS) -> SigningKey:
    """Return the key that signs for ``role``.

    Raises:
        BucklerError: As `load_private_key` and `check_fits`; or the project trusts a promotion key whose private half
            is not on this machine: the verdict key does not stand in for it.
    """
    if named := role.signing_key:
        key = open_signing_key(named, named_by=role.signing_env)
        check_fits(key, role, named)
        return key
    if role is PROMOTIONS and (trusted := role.public_keys):
        raise BucklerError(
            f"cannot sign: {trusted} says which key signs promotions, and its private half is not here; name it in"
            f" {role.signing_env}, or sign where it is"
        )
    return load_signing_key() if role is PROMOTIONS else load_private_key(paths.KEYS / role.private_file)


def check_fits(key: SigningKey, role: Role, named: str) -> None:
    """Check that ``key``, which ``named`` names, is one of the public keys of its role, if the project has some.

    Raises:
        BucklerError: It is not, and nobody would accept what it signs; or a public key cannot be read.
    """
    path = role.public_keys
    if path is None:
        return
    trusted = load_public_keys(path, named_by=role.public_env)
    if not trusted.contain(key.public_key()):
        together = f"{role.signing_env} and {role.public_env} must belong together. " if role.public_env else ""
        raise BucklerError(
            f"cannot sign {role.name}: expected {named} to be the private half of a key in {path} ({trusted}), it is"
            f" that of {key_id(key.public_key())}. {together}If this private key is the right one, `buckler keys public"
            f" '{named}' > '{path}'` writes its public half"
        )


def open_signing_key(named: str, *, named_by: str) -> SigningKey:
    """Return the signing key that the value ``named`` of a variable names.

    Args:
        named: Path of a PEM file, or URI of a key in hardware.
        named_by: The variable or option that has the value, for the error message.

    Raises:
        BucklerError: There is no such key, or it cannot sign.
    """
    if not hardware.is_uri(named):
        return load_private_key(Path(named), named_by=named_by)
    try:
        return hardware.load_key(named)
    except BucklerError as error:
        raise BucklerError(f"{named_by}: {error}") from error


def load_approver_key(person: str, named: str | None = None) -> SigningKey:
    """Return the private key of a person who approves promotions.

    Args:
        person: Her name.
        named: File or ``pkcs11:`` URI of the key; default: ``BUCKLER_APPROVAL_KEY``, else NAME.pem beside NAME.pub.

    Raises:
        BucklerError: There is no such key, or it cannot sign.
    """
    default = approvers.directory() / approvals_by(person).private_file
    if named:
        return open_signing_key(named, named_by="--key")
    return open_signing_key(os.environ.get(APPROVAL_KEY_ENV) or str(default), named_by=APPROVAL_KEY_ENV)


def load_private_key(path: Path, *, named_by: str = SIGNING_KEY_ENV) -> Ed25519PrivateKey:
    """Return the signing key in ``path``.

    Args:
        path: A PEM file.
        named_by: The variable or option that sets the path, for the error message.

    Raises:
        BucklerError: The file is missing, others than its owner can read it, or it is not an unencrypted Ed25519 key in
            PEM form.
    """
    content = _read_key(path, named_by)
    _check_private(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BucklerError(f"{path} is not an unencrypted private key in PEM form: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BucklerError(f"expected an Ed25519 private key in {path}, got {type(key).__name__}")
    return key


def _check_private(path: Path) -> None:
    """Check that nobody else can read or write ``path``, as far as this process can do something about it.

    A file of another owner, such as a mounted secret, may be readable by a group: that is how a container gets it.

    Raises:
        BucklerError: Somebody else can.
    """
    found = path.stat()
    shared = stat.S_IRWXG | stat.S_IRWXO if found.st_uid == os.geteuid() else stat.S_IWGRP | stat.S_IRWXO
    if found.st_mode & shared:
        mode = stat.S_IMODE(found.st_mode)
        raise BucklerError(
            f"expected a private key that only its owner can read, {path} has the mode {mode:04o}: others can sign with"
            f" it; `chmod 600 '{path}'`, and replace the key (`buckler keys rotate`) if somebody may have read it"
        )


def load_public_keys(path: Path | None = None, *, named_by: str = VERDICT_KEY_ENV) -> PublicKeys:
    """Return the public keys in ``path``, of which any verifies; several while a key is replaced.

    Args:
        path: A file with one or more PEM blocks; default: the project's keys of verdicts.
        named_by: The variable or option that sets the path, for the error message.

    Raises:
        BucklerError: The file is missing or contains anything but Ed25519 public keys in PEM form.
    """
    if path is None:
        return load_trusted_keys().verdict
    return PublicKeys.parse(_read_key(path, named_by), path)


def load_trusted_keys() -> TrustedKeys:
    """Return the public keys of the project; where promotions have none of their own, those of verdicts verify both.

    Raises:
        BucklerError: A key is missing or is not an Ed25519 key in PEM form; or as `approvers.load`.
    """
    verdict = _trusted(VERDICTS) or load_public_keys(paths.KEYS / PUBLIC_KEY_FILE)
    return TrustedKeys(verdict, _trusted(PROMOTIONS) or verdict, approvers.load())


def _trusted(role: Role) -> PublicKeys | None:
    """Return the public keys of ``role``, else the public half of its signing key; None without either."""
    if path := role.public_keys:
        return load_public_keys(path, named_by=role.public_env)
    if role.signing_key:
        return PublicKeys.of(load_signing_key(role).public_key())
    return None


def _read_key(path: Path, named_by: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BucklerError(f"there is no key {path}; {_to_get(path, named_by)}") from error
    except OSError as error:
        raise BucklerError(
            f"cannot read the key {path} ({error.strerror}); run as its owner, or name another file in {named_by}"
        ) from error


def _to_get(path: Path, named_by: str) -> str:
    """Return what to do about a missing key, in a form that leads to one."""
    if os.environ.get(named_by) == str(path):
        return f"{named_by} names it: correct the variable, or unset it"
    if not path.is_relative_to(paths.KEYS) and path.parent != approvers.directory():
        return f"expected the path of a key in {named_by}"
    if path.parent == approvers.directory():
        command = f"buckler keys init --for approvals --as {path.stem}"
    elif path.stem == Path(PRIVATE_KEY_FILE).stem and (PROMOTIONS.signing_key or PROMOTIONS.public_keys):
        command = f"buckler keys init --for {VERDICTS.name}"
    else:
        command = "buckler keys init"
    return f"`{command}` creates a pair, {named_by} names another file"


# --- of a registry


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of what is signed about a model: the given ones, else the project's, which are read at each use.

    Attributes:
        promotion: Signs promotions, standings and recoveries.
        trusted: Verify.
    """

    promotion: SigningKey | None = field(default=None, repr=False)
    trusted: TrustedKeys | None = None

    def public(self) -> TrustedKeys:
        """Return the keys that verify signatures; raises as `load_trusted_keys`."""
        return self.trusted or load_trusted_keys()

    def private(self) -> SigningKey:
        """Return the key that signs promotions, standings and recoveries; raises as `load_signing_key`."""
        return self.promotion or load_signing_key(PROMOTIONS)

    def bound(self) -> "Keys":
        """Return these keys, read once, for a process that signs.

        Raises:
            BucklerError: As `public` and `private`; or no service would accept what the key signs.
        """
        key, trusted = self.private(), self.public()
        if not trusted.promotion.contain(key.public_key()):
            raise BucklerError(
                f"cannot sign: expected a key that verifies promotions here ({trusted.promotion}), the signing key is"
                f" {key_id(key.public_key())}; {PROMOTION_SIGNING_KEY_ENV} and {PROMOTION_KEY_ENV} must belong together"
            )
        return Keys(key, trusted)
