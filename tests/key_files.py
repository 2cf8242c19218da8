"""Key pairs in a directory, as `buckler keys init` leaves them, and the environment that names them."""

from pathlib import Path

from buckler.trust.keys import PROMOTIONS, VERDICTS, Keys, Role, load_private_key, load_public_keys
from buckler.trust.public_keys import TrustedKeys

KEY_VARIABLES = [name for role in (VERDICTS, PROMOTIONS) for name in (role.signing_env, role.public_env)]


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
