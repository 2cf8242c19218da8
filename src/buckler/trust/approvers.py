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

    If the directory is not clear, nobody approves: a promotion that needs approvals is refused. It is no error,
    because a withdrawal needs no approver and must not wait until somebody repairs the directory.

    Raises:
        BucklerError: ``BUCKLER_SIGNATURES`` is not a number of people.
    """
    required = _required()
    try:
        return Approvers(_keys(directory()), required)
    except (BucklerError, OSError, ValueError) as error:
        return Approvers({}, required, f"the approvers in {directory()} are not clear: {error}")


def _keys(where: Path) -> dict[str, PublicKeys]:
    if os.environ.get(APPROVERS_ENV) and not where.is_dir():
        raise BucklerError(f"{APPROVERS_ENV} names no directory")
    return {path.stem: PublicKeys.parse(path.read_bytes(), path) for path in sorted(where.glob("[!.]*.pub"))}


def _required() -> int:
    value = os.environ.get(REQUIRED_ENV) or "0"
    if not value.isascii() or not value.isdecimal():
        raise BucklerError(f"expected a number of people in {REQUIRED_ENV}, got {value!r}")
    return int(value)
