"""Commands on releases: ``promote``, ``rollback``, ``champion`` and ``verify``."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buckler.cli.parsers import add
from buckler.errors import BucklerError

if TYPE_CHECKING:
    from buckler.release.promote import Move
    from buckler.serving.assessment import Assessment

STANDARD_OUTPUT = "-"
COULD_NOT_TELL = 2  # exit code, as of every command that could not run


def add_to(commands: Any) -> None:
    """Add the commands to the parser's ``commands``."""
    promote = add(commands, "promote", _promote, "make a version the champion if its verdict allows")
    promote.add_argument("--version", metavar="N", help="default: the challenger")
    promote.add_argument(
        "--without-comparison",
        action="store_true",
        help="promote although the champion's evidence is available nowhere; if it is, the two are compared anyway",
    )

    add(commands, "rollback", _rollback, "make the previous champion the champion again")

    champion = add(
        commands,
        "champion",
        _champion,
        "show the champion, its verdict and standing; exit code 1 with every reason against it, 2 if its release cannot"
        " be downloaded",
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


def model_name() -> str:
    """Return the name of the model in the registry, from params.yaml."""
    from buckler import params
    from buckler.release.settings import PublishParams

    return params.load("publish", PublishParams).model_name


def _promote(arguments: argparse.Namespace) -> int:
    from buckler.release.promote import promote
    from buckler.release.tracking import WritableRegistry
    from buckler.serving import loadable

    move = promote(
        WritableRegistry(model_name()),
        number=arguments.version,
        without_comparison=arguments.without_comparison,
        flaws=loadable.flaws,
    )
    _print_move(move, "promoted")
    return 0


def _rollback(_: argparse.Namespace) -> int:
    from buckler.release.promote import rollback
    from buckler.release.tracking import WritableRegistry

    _print_move(rollback(WritableRegistry(model_name())), "rolled back")
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
    from buckler.serving import clocks, loadable
    from buckler.serving.registry import Registry, shown_uri

    if arguments.lift is not None:
        _lift(arguments.lift, arguments.version)
    name = model_name()
    champion = Assessor(Registry(name)).champion(loadable.flaws)
    if champion is None:
        raise BucklerError(f"{name} has no champion in {shown_uri()}; `buckler promote` makes one")
    _print_champion(champion)
    for sentence in clocks.from_future(champion, datetime.now(UTC)):
        print(f"note       {sentence}", file=sys.stderr)
    for reason in champion.reasons:
        print(f"{reason.code.ljust(10)} {reason}", file=sys.stderr)
    return COULD_NOT_TELL if champion.not_told else int(bool(champion.reasons))


def _lift(job: str, version: str | None) -> None:
    from buckler.watch import policy

    print(policy.lift(job, version))


def _print_champion(champion: "Assessment") -> None:
    from buckler.release import bundle

    promoted = champion.promotion.moment.isoformat() if champion.promotion else "by hand"
    print(f"champion   {champion.version.model} version {champion.version.version}, promoted {promoted}")
    if champion.verdict is not None:
        print(bundle.describe(champion.verdict))
    if champion.approvals is not None and (champion.approvals.needed or champion.approvals.approved):
        print(f"approved   {champion.approvals.summary}")
    if champion.standing is not None:
        standing = champion.standing
        print(
            f"standing   {standing.state} until {standing.expires_at.isoformat()}, since {standing.moment.isoformat()}"
        )
    print(f"serves     {_consequence(champion)}")


def _consequence(champion: "Assessment") -> str:
    if not champion.may_load:
        return "no: the service keeps the release that it verified last"
    if not champion.may_serve:
        return "no: the service answers 503"
    return "yes, every answer for review" if champion.must_review else "yes"


def _verify(arguments: argparse.Namespace) -> int:
    from buckler.serving import clocks, loadable
    from buckler.serving.assessment import OpenedRelease
    from buckler.trust.digests import checksum_list
    from buckler.trust.keys import load_public_keys
    from buckler.trust.opened_files import opened
    from buckler.trust.verdict import verify_release

    if not arguments.release.is_dir():
        raise BucklerError(f"expected the directory of a release, got {arguments.release}; `dvc repro` writes one")

    with opened(arguments.release) as files:
        verdict = verify_release(files, load_public_keys())
        # Authentic all the same.
        notes = [str(reason) for reason in loadable.flaws(OpenedRelease(arguments.release, files, verdict))]
    if verdict.issued_at > datetime.now(UTC) + clocks.TOLERANCE:
        moment = verdict.issued_at.isoformat()
        notes.append(
            f"it is from {moment}, which lies in the future: a clock was or is wrong; `dvc repro`, once it is right"
        )
    if arguments.checksums:
        _write(arguments.checksums, checksum_list(verdict.signed_files))
    about = sys.stderr if arguments.checksums == STANDARD_OUTPUT else sys.stdout
    print(f"verdict    {verdict.id}", file=about)
    print(f"model      {verdict.subject_digest}", file=about)
    print(f"expires    {verdict.expires_at.isoformat()}", file=about)
    print(f"{arguments.release} is valid", file=about)
    for note in notes:
        print(f"note       {note}", file=about)
    return 0


def _write(destination: str, text: str) -> None:
    if destination == STANDARD_OUTPUT:
        print(text, end="")
        return
    try:
        Path(destination).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BucklerError(f"cannot write {destination}: {error.strerror}") from error
