"""Signing keys in hardware. PKCS#11 is the interface of hardware security modules, smart cards and SoftHSM.

Another kind of signer, such as a cloud's key management service, is one more module here with a class that has
``sign`` and ``public_key``, and its scheme in `load_key`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from buckler.errors import BucklerError
from buckler.trust.hardware import uri

if TYPE_CHECKING:
    from buckler.trust.hardware.key import TokenKey


def is_uri(value: str) -> bool:
    """Return whether ``value`` names a key in hardware rather than a file.

    In quotes or capitals too, which `load_key` refuses: as a path it would be repeated in an error, with a PIN in it.
    """
    return value.strip(" \t\n\"'").lower().startswith(uri.SCHEME)


def load_key(value: str) -> "TokenKey":
    """Return the signing key that the ``pkcs11:`` URI ``value`` names.

    Raises:
        BucklerError: The URI is malformed, python-pkcs11 is not installed, or module, token, PIN or key cannot be used.
    """
    named = uri.parse(value)
    with _library():
        from buckler.trust.hardware.key import TokenKey
    return TokenKey(named)


def create_key(value: str) -> "TokenKey":
    """Create the key pair that the ``pkcs11:`` URI ``value`` names, and return it.

    Raises:
        BucklerError: As `load_key`; or the token has an object of this name, or cannot create such a key.
    """
    named = uri.parse(value)
    with _library():
        from buckler.trust.hardware.key import create
    return create(named)


@contextmanager
def _library() -> Iterator[None]:
    """Explain that python-pkcs11 is missing: it is imported when a URI is used, and only then."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "pkcs11":
            raise
        raise BucklerError(
            "keys in a PKCS#11 token need python-pkcs11, which is not installed; install Buckler with the extra pkcs11"
        ) from error
