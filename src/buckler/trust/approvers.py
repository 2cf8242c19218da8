"""The people who approve promotions: whose keys count here, and how many approvals a promotion needs here.

The public ones are files ``NAME.pub`` in a directory of each verifier: ``BUCKLER_APPROVER_KEYS``, else
``.buckler/keys/approvers``. Who may approve is never read from the registry. A private key is its owner's alone.
"""

import os
from pathlib import Path

from buckler.errors import BucklerError
from buckler.state import paths
from buckler.trust.public_keys import Approvers, PublicKeys

APPROVERS_ENV = "BUCKLER_APPROVER_KEYS"
REQUIRED_ENV = "BUCKLER_SIGNATURES"


def directory() -> Path:
    """Return the directory of the public keys."""
    return Path(os.environ.get(APPROVERS_ENV) or paths.APPROVERS)


def load() -> Approvers:
    """Return the people who may approve here, and how many approvals each promotion needs here.

    Raises:
        BucklerError: A file is no public key, two people have one key, ``BUCKLER_SIGNATURES`` is not a number of
            people, or ``BUCKLER_APPROVER_KEYS`` names no directory.
    """
    where = directory()
    if os.environ.get(APPROVERS_ENV) and not where.is_dir():
        raise BucklerError(f"expected a directory of files NAME.pub in {APPROVERS_ENV}, got {where}")
    keys = {path.stem: _read(path) for path in sorted(where.glob("[!.]*.pub"))}
    try:
        return Approvers(keys, _required())
    except ValueError as error:
        raise BucklerError(f"{where}: {error}") from error


def _read(path: Path) -> PublicKeys:
    try:
        return PublicKeys.parse(path.read_bytes(), path)
    except OSError as error:
        raise BucklerError(f"cannot read the approver's key {path} ({error.strerror}); replace or remove it") from error


def _required() -> int:
    value = os.environ.get(REQUIRED_ENV) or "0"
    if not value.isascii() or not value.isdecimal():
        raise BucklerError(f"expected a number of people in {REQUIRED_ENV}, got {value!r}")
    return int(value)
