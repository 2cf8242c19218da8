"""The commands ``keys``: key pairs that sign verdicts and receipts, and API keys of the service's clients."""

import argparse
import sys
from pathlib import Path
from typing import Any

from buckler.cli.parsers import add
from buckler.errors import BucklerError
from buckler.state import paths


def add_to(commands: Any) -> None:
    """Add the commands to the parser's ``commands``."""
    keys = commands.add_parser("keys", help="create signing keys; create, list and revoke API keys of the service")
    actions = keys.add_subparsers(required=True, metavar="ACTION")

    init = add(actions, "init", _init, "create key pairs for signatures; an existing pair is never overwritten")
    init.add_argument("--directory", type=Path, help="default: .buckler/keys")
    init.add_argument(
        "--for",
        dest="purpose",
        choices=("verdicts", "promotions", "receipts"),
        help="what the pair signs: the gate's verdicts, promotions and what the watch states, or the service's receipts"
        " (default: a pair for verdicts and another for promotions)",
    )

    create = add(actions, "create", _create, "create an API key and print it; it is not shown again")
    # Literals, not the values of Role: `--help` imports no more than it must.
    create.add_argument(
        "--role", required=True, choices=["predict", "operate"], help="to send pictures; to read /metrics"
    )
    create.add_argument("--name", required=True, help="owner of the key")
    create.add_argument("--out", type=Path, metavar="FILE", help="write the key to this new file instead of stdout")

    show = add(actions, "list", _list, "show the API keys: id, role, name, time of creation, state")
    revoke = add(actions, "revoke", _revoke, "revoke an API key; a running service rejects it within seconds")
    revoke.add_argument("id", metavar="ID")
    for each in (create, show, revoke):
        each.add_argument("--file", type=Path, help="default: BUCKLER_API_KEYS, else .buckler/keys/api.json")


def _init(arguments: argparse.Namespace) -> int:
    from buckler.trust import keys
    from buckler.trust.receipt import RECEIPTS

    directory = arguments.directory or paths.KEYS
    known = (keys.VERDICTS, keys.PROMOTIONS, RECEIPTS)
    roles = [role for role in known if role.name == arguments.purpose] or [keys.VERDICTS, keys.PROMOTIONS]
    keys.generate_key_pair(directory, *roles)
    for role in roles:
        reader = "client" if role is RECEIPTS else "service"
        print(f"created {directory / role.private_file} (signs {role.name}; keep it secret, and keep a copy)")
        print(f"created {directory / role.public_file} (verifies them; give it to every {reader})")
    return 0


def _create(arguments: argparse.Namespace) -> int:
    from buckler.serving import api_keys

    path = arguments.file or api_keys.file_path()
    key, secret = api_keys.create(path, role=api_keys.Role(arguments.role), name=arguments.name)
    if arguments.out is None:
        print(secret)  # alone on stdout: key=$(buckler keys create ...)
    else:
        try:
            api_keys.write_secret(arguments.out, secret)
        except BucklerError:
            api_keys.revoke(path, key.id)  # its secret is lost
            raise
    where = f"; it is in {arguments.out}" if arguments.out else "; it is not shown again"
    print(f"created key {key.id} ({key.role}, {key.name}) in {path}{where}", file=sys.stderr)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from buckler.serving import api_keys

    path = arguments.file or api_keys.file_path()
    keys = api_keys.read(path)
    if not keys:
        print(f"no key in {path}; `buckler keys create` creates one")
    for key in keys:
        state = f"revoked {key.revoked_at}" if key.revoked_at else "active"
        print(f"{key.id}  {key.role:<8}  {key.name:<24}  created {key.created_at}  {state}")
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from buckler.serving import api_keys

    key = api_keys.revoke(arguments.file or api_keys.file_path(), arguments.id)
    print(f"revoked key {key.id} ({key.role}, {key.name}); a running service rejects it within seconds")
    return 0
