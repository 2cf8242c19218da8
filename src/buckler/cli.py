"""The command ``buckler``.

Exit codes: 0 done; 1 refused, by a gate or by a verdict, a receipt or an audit log that does not hold; 2 could not
be done.
"""

import argparse
import dataclasses
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buckler.errors import BucklerError, ParamsError, PromotionRefusedError, ReceiptError, VerdictError
from buckler.state import paths

if TYPE_CHECKING:
    from buckler.client import Answer, ServiceError
    from buckler.release.promote import Move

CLIENT_KEY_ENV = "BUCKLER_CLIENT_KEY"

# Each command imports what it needs: `buckler --help` must not wait for MLflow or TensorFlow.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is first imported
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except (PromotionRefusedError, ReceiptError, VerdictError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    except BucklerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="buckler", description="Promote, watch and check what serves. `dvc repro` trains and publishes."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    promote = _add(commands, "promote", _promote, "make a version the champion, if its verdict allows")
    promote.add_argument("--version", metavar="N", help="default: the challenger")

    _add(commands, "rollback", _rollback, "go back to the champion before this one")
    champion = _add(commands, "champion", _champion, "show what serves and why; exit code 1 if it may not serve so")
    champion.add_argument("--lift", metavar="JOB", help="take back what a job of the watch holds against the champion")
    champion.add_argument("--version", metavar="N", help="with --lift: of another version")

    watch = _add(commands, "watch", _watch, "run scheduled jobs and serve their metrics")
    watch.add_argument("--history", metavar="JOB", nargs="?", const="", help="show the last runs, of JOB or of all")
    watch.add_argument("--log", metavar="N", type=int, help="show the log of run N of the history")
    watch.add_argument("--attempt", type=int, default=1, help=argparse.SUPPRESS)
    watch.add_argument(
        "--once",
        metavar="JOB",
        help="run one job now; exit code 0, 1, 2: passed, failed its gate, could not run",
    )
    watch.add_argument("--host", help="address to serve metrics on instead of watch.host")

    verify = _add(commands, "verify", _verify, "check a release directory: signature, digests, outcome, expiry")
    verify.add_argument("release", type=Path)

    profile = _add(commands, "profile", _profile, "write the values of a profile into params.yaml")
    profile.add_argument("name")
    profile.add_argument(
        "--set",
        metavar="SECTION.KEY=VALUE",
        dest="settings",
        action="append",
        default=[],
        help="YAML; repeatable",
    )

    keys = commands.add_parser("keys", help="key pairs to sign with (init); API keys of the service's clients")
    actions = keys.add_subparsers(required=True, metavar="ACTION")
    init = _add(actions, "init", _keys_init, "make a key pair to sign with; an existing one is never overwritten")
    init.add_argument("--directory", type=Path, help="default: .buckler/keys")
    init.add_argument(
        "--for",
        dest="purpose",
        choices=("verdicts", "receipts"),
        default="verdicts",
        help="what the pair signs: the gate's verdicts, or the service's receipts (default: %(default)s)",
    )
    _add_api_keys(actions)
    _add_audit(commands)

    _add_predict(commands)

    receipt = _add(commands, "verify-receipt", _verify_receipt, "check a signed answer of the service, offline")
    receipt.add_argument("receipt", type=Path, help="the answer as it came, or its field `receipt` alone")
    receipt.add_argument("--image", type=Path, required=True, help="the picture, the same bytes that were sent")
    receipt.add_argument("--key", type=Path, required=True, help="the service's public key, receipts.pub")
    receipt.add_argument("--model-digest", type=_digest, metavar="DIGEST", help="of the model that must have answered")
    return parser


def _add_predict(commands: Any) -> None:
    predict = _add(
        commands,
        "predict",
        _predict,
        "ask a running service about pictures; exit code 1 if one needs a person's look, 2 if one has no answer",
    )
    predict.add_argument("pictures", metavar="FILE", nargs="+", type=Path, help="JPEG, PNG or DICOM")
    predict.add_argument("--url", default="http://127.0.0.1:3000", help="of the service (default: %(default)s)")
    predict.add_argument("--key", help=f"API key; better in {CLIENT_KEY_ENV}, where no list of processes shows it")
    predict.add_argument(
        "--receipt-key", type=Path, metavar="FILE", help="the service's public key: take no answer without a receipt"
    )
    predict.add_argument("--json", action="store_true", help="print a JSON object a line: file, and answer or error")


def _add_api_keys(actions: Any) -> None:
    create = _add(actions, "create", _keys_create, "make an API key and print it, this once")
    # Spelt out, not taken from Role: `--help` imports no more than it must.
    create.add_argument(
        "--role", required=True, choices=["predict", "operate"], help="to send pictures; to read /metrics"
    )
    create.add_argument("--name", required=True, help="who gets it")
    create.add_argument("--out", type=Path, metavar="FILE", help="write the key to this new file, print nothing of it")
    show = _add(actions, "list", _keys_list, "show the API keys: id, role, name, since and until when")
    revoke = _add(actions, "revoke", _keys_revoke, "let an API key hold no longer; a running service notices")
    revoke.add_argument("id", metavar="ID")
    for each in (create, show, revoke):
        each.add_argument("--file", type=Path, help="default: BUCKLER_API_KEYS, else .buckler/keys/api.json")


def _add_audit(commands: Any) -> None:
    audit = commands.add_parser("audit", help="the log of every answer that the service gave")
    actions = audit.add_subparsers(required=True, metavar="ACTION")
    verify = _add(actions, "verify", _audit_verify, "check that no line was changed, removed, inserted or moved")
    verify.add_argument("file", type=Path, nargs="?", help="default: what BUCKLER_AUDIT_LOG names, or the project's")
    verify.add_argument(
        "--expect-head", type=_digest, metavar="DIGEST", help="a head that was noted; a cut end cannot be seen without"
    )
    verify.add_argument("--expect-lines", type=_count, metavar="N", help="how many lines there were when it was noted")
    verify.add_argument("--after", type=_digest, metavar="DIGEST", help="head of the lines that were archived")


def _digest(text: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"expected sha256: and 64 hexadecimal digits, got {text!r}")
    return text


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of lines, got {text!r}")
    return int(text)


def _add(commands: Any, name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=command)
    return parser


def _model_name() -> str:
    from buckler import params
    from buckler.release.bundle import PublishParams

    return params.load("publish", PublishParams).model_name


def _promote(arguments: argparse.Namespace) -> int:
    from buckler.release.promote import promote as promote_release
    from buckler.trust.keys import load_private_key

    move = promote_release(_model_name(), load_private_key(), number=arguments.version)
    _tell(move, "promoted")
    return 0


def _rollback(_: argparse.Namespace) -> int:
    from buckler.release.promote import rollback
    from buckler.trust.keys import load_private_key

    _tell(rollback(_model_name(), load_private_key()), "rolled back")
    return 0


def _tell(move: "Move", done: str) -> None:
    for note in move.notes:
        print(note)
    if not move.changed:
        print(f"{move.model_name}: version {move.version} is the champion already")
    else:
        before = f" (before: version {move.previous})" if move.previous else ""
        print(f"{move.model_name}: {done}, the champion is version {move.version}{before}")


def _champion(arguments: argparse.Namespace) -> int:
    from buckler.release import bundle
    from buckler.release.promote import serving as serving_release
    from buckler.serving import registry
    from buckler.trust.keys import load_public_key

    if arguments.lift is not None:
        _lift(arguments.lift, arguments.version)
    name = _model_name()
    serving = serving_release(name, load_public_key())
    if serving is None:
        raise BucklerError(f"{name} has no champion in {registry.shown_uri()}; `buckler promote` makes one")
    promoted = serving.version.promoted_at or "by hand"
    print(f"champion   {name} version {serving.version.version}, promoted {promoted}")
    if serving.verdict is not None:
        print(bundle.describe(serving.verdict))
    if serving.standing is not None:
        stands = serving.standing
        print(f"standing   {stands.state} until {stands.expires_at.isoformat()}, since {stands.moment.isoformat()}")
        for reason in stands.reasons:
            print(f"against    {reason}")
    if serving.problem is not None:
        print(f"refused: {serving.problem}", file=sys.stderr)
        return 1
    return 0


def _lift(job: str, version: str | None) -> None:
    from buckler.watch import policy

    print(policy.lift(job, version))


def _watch(arguments: argparse.Namespace) -> int:
    from buckler import params, watch
    from buckler.watch import logs, table

    if arguments.log is not None:
        print(logs.read(arguments.log), end="")
        return 0
    if arguments.history is not None:
        return _watch_history(arguments.history or None)
    if arguments.once is not None:
        table.check_name(arguments.once)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    cfg = params.load("watch", watch.WatchParams)
    if arguments.once is not None:
        run = watch.run_once(arguments.once, cfg=cfg, attempt=arguments.attempt)
        print(f"{run.job} {run.outcome} after {run.seconds:.1f} s: {run.message}")
        return watch.EXIT_CODES[run.outcome or "error"]
    watch.serve(dataclasses.replace(cfg, host=arguments.host or cfg.host))
    return 0


def _watch_history(job: str | None) -> int:
    from datetime import datetime

    from buckler import watch
    from buckler.watch import table

    if job is not None:
        table.check_name(job)
    with watch.History() as history:
        runs = history.runs(job)
    for run in runs:
        began = datetime.fromtimestamp(run.started_at).astimezone().isoformat(timespec="seconds")
        lasted = "" if run.seconds is None else f"{run.seconds:.1f} s"
        tried = f" (attempt {run.attempt})" if run.attempt > 1 else ""
        print(f"{run.number:6}  {began}  {lasted:>9}  {run.job} {run.outcome or 'running'}{tried}: {run.message}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from buckler.trust.keys import load_public_key
    from buckler.trust.verdict import verify_release

    verdict = verify_release(arguments.release, load_public_key())
    print(f"verdict    {verdict.id}")
    print(f"model      {verdict.subject_digest}")
    print(f"expires    {verdict.expires_at.isoformat()}")
    print(f"{arguments.release} holds")
    return 0


def _profile(arguments: argparse.Namespace) -> int:
    from buckler import params

    settings = dict(_setting(text) for text in arguments.settings)
    params.apply_profile(arguments.name, settings)
    print(f"params.yaml now has the values of profile {arguments.name!r}; `git diff params.yaml` shows them")
    return 0


def _setting(text: str) -> tuple[str, object]:
    import yaml

    key, sign, value = text.partition("=")
    if not sign or "." not in key:
        raise ParamsError(f"--set: expected section.key=value, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ParamsError(f"--set {key}: {value!r} is not valid YAML") from error


def _keys_init(arguments: argparse.Namespace) -> int:
    from buckler.trust import keys
    from buckler.trust import receipt as receipts

    directory = arguments.directory or paths.KEYS
    module, reader = (receipts, "client") if arguments.purpose == "receipts" else (keys, "service")
    module.generate_key_pair(directory)
    print(f"made {directory / module.PRIVATE_KEY_FILE} (signs; keep it secret, and keep a copy)")
    print(f"made {directory / module.PUBLIC_KEY_FILE} (checks; give it to every {reader})")
    return 0


def _verify_receipt(arguments: argparse.Namespace) -> int:
    from buckler.trust.keys import load_public_key
    from buckler.trust.receipt import verify as receipt_verify

    key = load_public_key(arguments.key, named_by="--key")
    receipt = receipt_verify(arguments.receipt, arguments.image, key, model_digest=arguments.model_digest)
    answer, model = receipt.answer, receipt.answer["model"]
    print(
        f"holds: {answer['label']} ({answer['decision']}) for {receipt.input}, by {model['name']} version"
        f" {model['version']} ({model['digest']}) at {receipt.issued_at.isoformat()}"
        + (f", line {receipt.audit.sequence} ({receipt.audit.digest}) of its audit log" if receipt.audit else "")
    )
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from buckler.client import Client, ServiceError
    from buckler.trust.keys import load_public_key

    key = load_public_key(arguments.receipt_key, named_by="--receipt-key") if arguments.receipt_key else None
    tell = _tell_json if arguments.json else _tell_line
    codes = [0]
    with Client(arguments.url, key=arguments.key or os.environ.get(CLIENT_KEY_ENV), receipt_key=key) as service:
        for picture in arguments.pictures:
            try:
                answer: Answer | ServiceError = service.predict(picture)
            except ServiceError as error:
                answer = error
            codes.append(tell(picture, answer))
    return max(codes)


def _tell_line(picture: Path, answer: "Answer | ServiceError") -> int:
    if isinstance(answer, BucklerError):
        print(f"{picture}: {answer}", file=sys.stderr)
        return 2
    reasons = f" ({', '.join(answer.reasons)})" if answer.reasons else ""
    print(f"{picture}: {answer.label} {answer.probabilities[answer.label]:.1%}, {answer.decision}{reasons}")
    return int(answer.decision == "review")


def _tell_json(picture: Path, answer: "Answer | ServiceError") -> int:
    if isinstance(answer, BucklerError):
        error = {"code": answer.code, "message": str(answer).removeprefix(f"{answer.code}: ")}
        print(json.dumps({"file": str(picture), "error": error}))
        return 2
    print(json.dumps({"file": str(picture), "answer": dict(answer.content)}))
    return int(answer.decision == "review")


def _audit_verify(arguments: argparse.Namespace) -> int:
    from buckler.trust.audit import log_path
    from buckler.trust.audit import verify as audit_verify

    path = arguments.file or log_path()
    report = audit_verify(
        path, expect_head=arguments.expect_head, expect_lines=arguments.expect_lines, after=arguments.after
    )
    span = f", {report.first} to {report.head.sequence}" if report.lines else ""
    print(f"lines      {report.lines} hold{span}")
    print(f"head       {report.head.digest}")
    if report.recovered:
        print(f"recovered  {report.recovered} torn by a crash or a full disk, moved aside and noted")
    if report.problem:
        print(f"refused: {report.problem}", file=sys.stderr)
        return 1
    print(f"{path} holds; keep the head elsewhere, and later give it to --expect-head")
    return 0


def _keys_create(arguments: argparse.Namespace) -> int:
    from buckler.serving import api_keys

    path = arguments.file or api_keys.file_path()
    key, secret = api_keys.create(path, role=api_keys.Role(arguments.role), name=arguments.name)
    if arguments.out is None:
        print(secret)  # alone on stdout: key=$(buckler keys create ...)
    else:
        try:
            api_keys.write_secret(arguments.out, secret)
        except BucklerError:
            api_keys.revoke(path, key.id)  # nobody will ever know it
            raise
    where = f"; it is in {arguments.out}" if arguments.out else "; it is not shown again"
    print(f"made key {key.id} ({key.role}, {key.name}) in {path}{where}", file=sys.stderr)
    return 0


def _keys_list(arguments: argparse.Namespace) -> int:
    from buckler.serving import api_keys

    path = arguments.file or api_keys.file_path()
    keys = api_keys.read(path)
    if not keys:
        print(f"no key in {path}; `buckler keys create` makes one")
    for key in keys:
        until = f"revoked {key.revoked_at}" if key.revoked_at else "holds"
        print(f"{key.id}  {key.role:<8}  {key.name:<24}  created {key.created_at}  {until}")
    return 0


def _keys_revoke(arguments: argparse.Namespace) -> int:
    from buckler.serving import api_keys

    key = api_keys.revoke(arguments.file or api_keys.file_path(), arguments.id)
    print(f"revoked key {key.id} ({key.role}, {key.name}); a running service refuses it within seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
