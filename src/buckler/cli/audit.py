"""The command ``audit verify``: checks the chain of the audit log."""

import argparse
import sys
from pathlib import Path
from typing import Any

from buckler.cli.parsers import add, count, digest


def add_to(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    audit = commands.add_parser("audit", help="the log of every answer of the service")
    actions = audit.add_subparsers(required=True, metavar="ACTION")
    verify = add(actions, "verify", _verify, "check that no line was changed, removed, inserted or moved")
    verify.add_argument("file", type=Path, nargs="?", help="default: BUCKLER_AUDIT_LOG, else the project's log")
    verify.add_argument(
        "--expect-head", type=digest, metavar="DIGEST", help="a head stored earlier; without it a cut end is not found"
    )
    verify.add_argument("--expect-lines", type=count, metavar="N", help="number of lines when that head was stored")
    verify.add_argument("--after", type=digest, metavar="DIGEST", help="head of the lines that were archived")


def _verify(arguments: argparse.Namespace) -> int:
    from buckler.trust.audit import log_path
    from buckler.trust.audit_chain import verify

    path = arguments.file or log_path()
    report = verify(path, expect_head=arguments.expect_head, expect_lines=arguments.expect_lines, after=arguments.after)
    span = f", {report.first} to {report.head.sequence}" if report.lines else ""
    print(f"lines      {report.lines} valid{span}")
    print(f"head       {report.head.digest}")
    if report.recovered:
        print(f"recovered  {report.recovered} lines left incomplete by a crash or a full disk, moved to other files")
    if report.problem:
        print(f"refused: {report.problem}", file=sys.stderr)
        return 1
    print(f"{path} is valid; store the head elsewhere and pass it later as --expect-head")
    return 0
