"""Commands on releases: ``promote``, ``rollback``, ``champion`` and ``verify``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buckler.cli.parsers import add
from buckler.errors import BucklerError

if TYPE_CHECKING:
    from buckler.release.assess import Assessment
    from buckler.release.promote import Move

STANDARD_OUTPUT = "-"


def add_to(commands: Any) -> None:
    """Add the commands to the parser's ``commands``."""
    promote = add(commands, "promote", _promote, "make a version the champion if its verdict allows")
    promote.add_argument("--version", metavar="N", help="default: the challenger")

    add(commands, "rollback", _rollback, "make the previous champion the champion again")

    champion = add(
        commands, "champion", _champion, "show the champion, its verdict and standing; exit code 1 if it may not serve"
    )
    champion.add_argument("--lift", metavar="JOB", help="remove the claim of a watch job on the champion")
    champion.add_argument("--version", metavar="N", help="with --lift: the claim on this version")

    verify = add(commands, "verify", _verify, "verify a release directory: signature, digests, outcome, expiry")
    verify.add_argument("release", type=Path, help="directory of the release")
    verify.add_argument(
        "--checksums",
        metavar="FILE",
        help="write the digests of the signed files, for `sha256sum --check` in the directory; -: standard output",
    )


def _model_name() -> str:
    from buckler import params
    from buckler.release.settings import PublishParams

    return params.load("publish", PublishParams).model_name


def _promote(arguments: argparse.Namespace) -> int:
    from buckler.release.promote import promote
    from buckler.trust.keys import load_private_key

    _print_move(promote(_model_name(), load_private_key(), number=arguments.version), "promoted")
    return 0


def _rollback(_: argparse.Namespace) -> int:
    from buckler.release.promote import rollback
    from buckler.trust.keys import load_private_key

    _print_move(rollback(_model_name(), load_private_key()), "rolled back")
    return 0


def _print_move(move: "Move", done: str) -> None:
    for note in move.notes:
        print(note)
    if not move.changed:
        print(f"{move.model_name}: version {move.version} is already the champion")
    else:
        before = f" (before: version {move.previous})" if move.previous else ""
        print(f"{move.model_name}: {done}, the champion is version {move.version}{before}")


def _champion(arguments: argparse.Namespace) -> int:
    from buckler.release.assess import Assessor
    from buckler.serving import registry
    from buckler.trust.keys import load_public_key

    if arguments.lift is not None:
        _lift(arguments.lift, arguments.version)
    name = _model_name()
    champion = Assessor(name, load_public_key()).champion()
    if champion is None:
        raise BucklerError(f"{name} has no champion in {registry.shown_uri()}; `buckler promote` makes one")
    _print_champion(name, champion)
    if champion.problem is not None:
        print(f"refused: {champion.problem}", file=sys.stderr)
        return 1
    return 0


def _lift(job: str, version: str | None) -> None:
    from buckler.watch import policy

    print(policy.lift(job, version))


def _print_champion(name: str, champion: "Assessment") -> None:
    from buckler.release import bundle

    promoted = champion.version.promoted_at or "by hand"
    print(f"champion   {name} version {champion.version.version}, promoted {promoted}")
    if champion.verdict is not None:
        print(bundle.describe(champion.verdict))
    if champion.standing is not None:
        standing = champion.standing
        print(
            f"standing   {standing.state} until {standing.expires_at.isoformat()}, since {standing.moment.isoformat()}"
        )
        for reason in standing.reasons:
            print(f"claim      {reason}")


def _verify(arguments: argparse.Namespace) -> int:
    from buckler.trust.digests import checksum_list
    from buckler.trust.keys import load_public_key
    from buckler.trust.verdict import verify_release

    verdict = verify_release(arguments.release, load_public_key())
    if arguments.checksums:
        _write(arguments.checksums, checksum_list(verdict.signed_files))
    about = sys.stderr if arguments.checksums == STANDARD_OUTPUT else sys.stdout
    print(f"verdict    {verdict.id}", file=about)
    print(f"model      {verdict.subject_digest}", file=about)
    print(f"expires    {verdict.expires_at.isoformat()}", file=about)
    print(f"{arguments.release} is valid", file=about)
    return 0


def _write(destination: str, text: str) -> None:
    if destination == STANDARD_OUTPUT:
        print(text, end="")
        return
    try:
        Path(destination).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BucklerError(f"cannot write {destination}: {error.strerror}") from error
