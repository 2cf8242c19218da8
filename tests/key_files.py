"""Key pairs in a directory, as `buckler keys init` leaves them, and the environment that names them."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.trust.keys import PROMOTIONS, VERDICTS, Keys, Role, load_private_key, load_public_keys, private_pem
from buckler.trust.public_keys import TrustedKeys

KEY_VARIABLES = [name for role in (VERDICTS, PROMOTIONS) for name in (role.signing_env, role.public_env)]


def write_private(path: Path, key: Ed25519PrivateKey) -> None:
    """Write a private key that only its owner can read; nothing signs with any other."""
    path.touch(mode=0o600)
    path.write_bytes(private_pem(key))


def trusted_in(directory: Path) -> TrustedKeys:
    """Return the public keys of both roles."""
    return TrustedKeys(*(load_public_keys(directory / role.public_file) for role in (VERDICTS, PROMOTIONS)))


def keys_in(directory: Path) -> Keys:
    """Return the keys of a signer of promotions."""
    return Keys(load_private_key(directory / PROMOTIONS.private_file), trusted_in(directory))


def public_env(directory: Path) -> dict[str, str]:
    """Return the variables that name the public keys."""
    return {role.public_env: str(directory / role.public_file) for role in (VERDICTS, PROMOTIONS)}


def signing_env(directory: Path, *roles: Role) -> dict[str, str]:
    """Return the variables that name the private keys of ``roles``."""
    return {role.signing_env: str(directory / role.private_file) for role in roles}
