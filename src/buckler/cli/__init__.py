"""The command ``buckler``; one module per group of commands.

Exit codes: 0 done; 1 refused: a promotion was refused, or a verdict, receipt or audit log is not valid; 2 the command
could not run.

Each command imports what it needs: `buckler --help` must not wait for MLflow or TensorFlow.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from buckler.cli import answers, approve, audit, check, keys, profile, releases, trust, watch
from buckler.cli.parsers import Command
from buckler.errors import BucklerError, PromotionRefusedError, ReceiptError, VerdictError
from buckler.state import startup


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is first imported
    arguments = parser().parse_args(argv)
    command: Command = arguments.command
    try:
        startup.begin()
        return command(arguments)
    except (PromotionRefusedError, ReceiptError, VerdictError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    except BucklerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    whole = argparse.ArgumentParser(
        prog="buckler", description="Promote, watch and verify models. `dvc repro` trains and publishes them."
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for group in (releases, approve, trust, watch, check, profile, keys, audit, answers):
        group.add_to(commands)
    return whole
