"""The command ``approve``: a person signs that a version may be promoted."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from buckler.cli.parsers import add
from buckler.errors import BucklerError

if TYPE_CHECKING:
    from buckler.trust.approval import Approvals


def add_to(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    approve = add(
        commands,
        "approve",
        _approve,
        "sign that a version may be promoted, as one of the people whom gate.signatures or BUCKLER_SIGNATURES demands",
    )
    approve.add_argument("--version", metavar="N", help="default: the challenger")
    approve.add_argument("--as", dest="person", metavar="NAME", help="your name, as the verifiers know your key")
    approve.add_argument(
        "--key",
        metavar="KEY",
        help="your private key: a file or a pkcs11: URI; default: BUCKLER_APPROVAL_KEY, else"
        " .buckler/keys/approvers/NAME.pem",
    )
    approve.add_argument("--yes", action="store_true", help="do not ask")
    approve.add_argument(
        "--show", action="store_true", help="only show who approved and who may; exit code 1 until enough have"
    )


def _approve(arguments: argparse.Namespace) -> int:
    from buckler.cli.releases import model_name
    from buckler.release import approve
    from buckler.release.tracking import WritableRegistry
    from buckler.trust import keys

    registry = WritableRegistry(model_name())
    if arguments.show:
        proposal = approve.propose(registry, number=arguments.version)
        return _shown(proposal.version.version, proposal.approvals)
    if not arguments.person:
        raise BucklerError("expected the name of the person who approves; pass --as NAME, or --show")
    key = keys.load_approver_key(arguments.person, arguments.key)
    proposal = approve.propose(registry, number=arguments.version)
    print(proposal.description)
    if not arguments.yes and not _confirmed(arguments.person, proposal.version.version):
        raise BucklerError("nothing was signed")
    found = approve.approve(registry, proposal, person=arguments.person, key=key)
    print(f"signed     {arguments.person} approves version {proposal.version.version}")
    _shown(proposal.version.version, found)
    return 0


def _confirmed(person: str, version: str) -> bool:
    if not sys.stdin.isatty():
        raise BucklerError("cannot ask without a terminal; read the above, then pass --yes")
    return input(f"{person} approves version {version}? [y/N] ").strip().lower() in {"y", "yes"}


def _shown(version: str, found: "Approvals") -> int:
    print(f"approved   {found.summary}")
    print("enough     " + (f"`buckler promote --version {version}`" if found.enough else "no"))
    return int(not found.enough)
