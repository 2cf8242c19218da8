"""Commands on the service's answers: ``predict`` and ``verify-receipt``."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buckler.cli.parsers import add, digest
from buckler.modality.picture.formats import LISTED

if TYPE_CHECKING:
    from buckler.client import Answer

CLIENT_KEY_ENV = "BUCKLER_CLIENT_KEY"
UNREADABLE = "file_unreadable"  # beside the codes of the service, which never gets such a file


def add_to(commands: Any) -> None:
    """Add the commands to the parser's ``commands``."""
    predict = add(
        commands,
        "predict",
        _predict,
        "send pictures to a running service; exit code 1 if an answer needs review, 2 if a picture has no answer",
    )
    predict.add_argument("pictures", metavar="FILE", nargs="+", type=Path, help=LISTED)
    predict.add_argument("--url", default="http://127.0.0.1:3000", help="of the service (default: %(default)s)")
    predict.add_argument("--key", help=f"API key; safer in {CLIENT_KEY_ENV}: a list of processes shows arguments")
    predict.add_argument(
        "--receipt-key", type=Path, metavar="FILE", help="the service's public key: reject answers without a receipt"
    )
    predict.add_argument("--frame", type=int, metavar="N", help="frame of a DICOM file with several, from 1")
    predict.add_argument(
        "--json", action="store_true", help="print one JSON object per line: file, and answer or error (code, message)"
    )

    receipt = add(commands, "verify-receipt", _verify_receipt, "verify a signed answer of the service, offline")
    receipt.add_argument("receipt", type=Path, help="the answer as received, or only its field `receipt`")
    receipt.add_argument("--image", type=Path, required=True, help="the picture, the same bytes that were sent")
    receipt.add_argument("--key", type=Path, required=True, help="the service's public key, receipts.pub")
    receipt.add_argument("--model-digest", type=digest, metavar="DIGEST", help="of the model that must have answered")


def _predict(arguments: argparse.Namespace) -> int:
    from buckler.client import Client, ServiceError, UnreadableFileError
    from buckler.trust.keys import load_public_keys

    key = load_public_keys(arguments.receipt_key, named_by="--receipt-key") if arguments.receipt_key else None
    print_answer, print_error = (_print_json, _print_json_error) if arguments.json else (_print_line, _print_error)
    codes = [0]
    with Client(arguments.url, key=arguments.key or os.environ.get(CLIENT_KEY_ENV), receipt_key=key) as service:
        for picture in arguments.pictures:
            try:
                codes.append(print_answer(picture, service.predict(picture, frame=arguments.frame)))
            except ServiceError as error:
                codes.append(print_error(picture, error.code, str(error).removeprefix(f"{error.code}: ")))
            except UnreadableFileError as error:  # the other pictures still get their answers
                codes.append(print_error(picture, UNREADABLE, f"cannot read it: {error.reason}"))
    return max(codes)


def _print_line(picture: Path, answer: "Answer") -> int:
    reasons = f" ({', '.join(answer.reasons)})" if answer.reasons else ""
    share = answer.probabilities[answer.label]
    frame = f" frame {answer.frame}" if answer.frame else ""
    print(f"{_shown(picture)}{frame}: {answer.label} {share:.1%}, {answer.decision}{reasons}")
    return int(answer.decision == "review")


def _print_error(picture: Path, code: str, message: str) -> int:
    print(f"{_shown(picture)}: {code}: {message}", file=sys.stderr)
    return 2


def _print_json(picture: Path, answer: "Answer") -> int:
    print(json.dumps({"file": str(picture), "answer": dict(answer.content)}))
    return int(answer.decision == "review")


def _print_json_error(picture: Path, code: str, message: str) -> int:
    print(json.dumps({"file": str(picture), "error": {"code": code, "message": message}}))
    return 2


def _shown(picture: Path) -> str:
    """Return a name that can be printed, even if it is not UTF-8."""
    return str(picture).encode(errors="backslashreplace").decode()


def _verify_receipt(arguments: argparse.Namespace) -> int:
    from buckler.trust.keys import load_public_keys
    from buckler.trust.receipt import verify

    key = load_public_keys(arguments.key, named_by="--key")
    receipt = verify(arguments.receipt, arguments.image, key, model_digest=arguments.model_digest)
    answer, model = receipt.answer, receipt.answer["model"]
    frame = f"frame {answer['frame']} of " if "frame" in answer else ""
    print(
        f"valid: {answer['label']} ({answer['decision']}) for {frame}{receipt.input}, by {model['name']} version"
        f" {model['version']} ({model['digest']}) at {receipt.issued_at.isoformat()}"
        + (f", line {receipt.audit.sequence} ({receipt.audit.digest}) of the audit log" if receipt.audit else "")
    )
    return 0
