"""The commands ``keys``: key pairs that sign, and API keys of the service's clients."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buckler.cli.parsers import add
from buckler.errors import BucklerError
from buckler.state import paths

if TYPE_CHECKING:
    from buckler.trust.keys import Role


def add_to(commands: Any) -> None:
    """Add the commands to the parser's ``commands``."""
    keys = commands.add_parser("keys", help="create and replace signing keys; manage the API keys of the service")
    actions = keys.add_subparsers(required=True, metavar="ACTION")

    init = add(actions, "init", _init, "create key pairs for signatures; an existing pair is never overwritten")
    init.add_argument("--directory", type=Path, help="default: .buckler/keys")
    init.add_argument(
        "--for",
        dest="purpose",
        choices=("verdicts", "promotions", "receipts", "approvals"),
        help="what the pair signs: the gate's verdicts, promotions and what the watch states, the service's receipts,"
        " or a person's approvals (default: a pair for verdicts and another for promotions)",
    )
    init.add_argument("--as", dest="person", metavar="NAME", help="with --for approvals: whose pair it is")

    init.add_argument(
        "--pkcs11",
        metavar="URI",
        help="create the pair in this PKCS#11 token, which keeps the private key; only the public one is written",
    )

    public = add(actions, "public", _public, "print the public half of a signing key")
    public.add_argument("key", metavar="KEY", help="file of a private key, or pkcs11: URI of one in a token")

    rotate = add(
        actions,
        "rotate",
        _rotate,
        "replace a key pair: create the next one and trust it beside the present one; with --to, sign with it",
    )
    rotate.add_argument("--public", type=Path, metavar="FILE", help="public half of the next key: it is in a token")
    rotate.add_argument("--to", metavar="ID", help="the new key, once every service has the new file of public keys")
    retire = add(
        actions,
        "retire",
        _retire,
        "trust a replaced key no more; what it signed about the champion, and every standing, is signed again before",
    )
    retire.add_argument("id", metavar="ID")
    retire.add_argument("--stolen", action="store_true", help="with a key of verdicts: even if the champion needs it")
    for each in (rotate, retire):
        each.add_argument("--for", dest="purpose", choices=("verdicts", "promotions"), required=True)

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
    from buckler.trust import keys, rotation
    from buckler.trust.receipt import RECEIPTS

    if (arguments.purpose == "approvals") != (arguments.person is not None):
        raise BucklerError("expected --for approvals and --as NAME together: each person has a pair")
    if arguments.person:
        return _init_for_approvals(arguments)
    directory = arguments.directory or paths.KEYS
    known = (keys.VERDICTS, keys.PROMOTIONS, RECEIPTS)
    roles = [role for role in known if role.name == arguments.purpose] or [keys.VERDICTS, keys.PROMOTIONS]
    if arguments.pkcs11:
        return _init_in_token(arguments.pkcs11, directory, roles)
    rotation.check_first(directory, *roles)
    keys.generate_key_pair(directory, *roles)
    for role in roles:
        print(f"created {directory / role.private_file} (signs {role.name}; keep it secret, and keep a copy)")
        print(_created_public(directory, role))
    return 0


def _init_for_approvals(arguments: argparse.Namespace) -> int:
    from buckler.trust import approvers, keys

    directory, role = arguments.directory or approvers.directory(), keys.approvals_by(arguments.person)
    if arguments.pkcs11:
        keys.create_in_token(arguments.pkcs11, directory, role)
    else:
        keys.generate_key_pair(directory, role)
        print(f"created {directory / role.private_file} (signs approvals of {arguments.person}; keep it secret)")
    public = directory / role.public_file
    print(f"created {public} (verifies them; give it to every service and signer, for .buckler/keys/approvers)")
    print(f"for gate.signatures.keys in params.yaml: {arguments.person}: {keys.load_public_keys(public).id}")
    return 0


def _init_in_token(uri: str, directory: Path, roles: "list[Role]") -> int:
    from buckler.trust import keys

    if len(roles) != 1:
        raise BucklerError("a URI names one pair; say what it signs with --for")
    keys.create_in_token(uri, directory, roles[0])
    print(f"created the pair in the token (signs {roles[0].name}; set {roles[0].signing_env} to its URI)")
    print(_created_public(directory, roles[0]))
    return 0


def _created_public(directory: Path, role: "Role") -> str:
    reader = "client" if role.name == "receipts" else "service"
    return f"created {directory / role.public_file} (verifies them; give it to every {reader})"


def _public(arguments: argparse.Namespace) -> int:
    from buckler.trust import keys
    from buckler.trust.public_keys import public_pem

    key = keys.open_signing_key(arguments.key, named_by="KEY")
    print(public_pem(key.public_key()).decode(), end="")
    return 0


def _rotate(arguments: argparse.Namespace) -> int:
    from buckler.trust import keys, rotation

    role = next(role for role in (keys.VERDICTS, keys.PROMOTIONS) if role.name == arguments.purpose)
    if arguments.to is None:
        pair = rotation.begin(role, keys.load_public_keys(arguments.public) if arguments.public else None)
        next_key = (pair.waiting or pair.trusted.ids)[-1]
        use = f"set {role.signing_env} to the URI of the next key"
        if pair.can_switch(next_key):
            use = f"buckler keys rotate --for {role.name} --to {rotation.short(next_key)}"
        print(f"waits      {next_key}: trusted, does not sign yet")
        print(f"signs      {pair.signing or 'no key: the private half is not here'}")
        print(f"next       give {pair.public} to every service, watch and console")
        print(f"then       {use}")
        return 0
    pair = rotation.switch(role, arguments.to)
    print(f"signs      {pair.signing}")
    for key in pair.earlier:
        print(f"replaced   {key}: still trusted")
        if role.name == "verdicts":
            print("next       dvc repro, then buckler promote: no live release may need the replaced key")
        print(f"then       buckler keys retire {rotation.short(key)} --for {role.name}")
    return 0


def _retire(arguments: argparse.Namespace) -> int:
    from buckler.cli.releases import model_name
    from buckler.release import recover, retire
    from buckler.release.tracking import WritableRegistry

    registry = WritableRegistry(model_name())
    if arguments.purpose == "promotions":
        done = retire.retire_promotion_key(registry, arguments.id)
    else:
        done = retire.retire_verdict_key(registry, arguments.id, stolen=arguments.stolen)
    print(f"retired    {done.key}")
    if done.records:
        print("signed     what follows; check it")
        for line in recover.lines(done.records):
            print(line)
    print(f"next       give {done.pair.public} to every service, watch and console")
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
