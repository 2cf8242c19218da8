"""The command ``buckler``; one module per group of commands.

Exit codes: 0 done; 1 refused: a promotion was refused, or a verdict, receipt or audit log is not valid; 2 the command
could not run; 130 it was interrupted; 141 the reader of its output has gone.

Each command imports what it needs: `buckler --help` must not wait for MLflow or TensorFlow. This module imports little,
so that `main` catches an interrupt during all other imports.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from buckler.errors import BucklerError, PromotionRefusedError, ReceiptError, VerdictError
from buckler.state import exits

if TYPE_CHECKING:
    import argparse

    from buckler.cli.parsers import Command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is first imported
    return exits.run(partial(_run, argv), failed=2)


def _run(argv: Sequence[str] | None) -> int:
    from buckler.state import startup

    arguments = parser().parse_args(argv)
    command: Command = arguments.command
    try:
        startup.begin()
        return command(arguments)
    except (PromotionRefusedError, ReceiptError, VerdictError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    except (BucklerError, OSError, MemoryError):
        raise  # `exits.run` explains them
    except Exception:  # a bug; Python's own exit code, 1, would say that something was refused
        traceback.print_exc()
        return 2


def parser() -> "argparse.ArgumentParser":
    """Return the parser of all commands."""
    import argparse

    from buckler.cli import answers, approve, audit, check, keys, profile, releases, trust, watch

    whole = argparse.ArgumentParser(
        prog="buckler", description="Promote, watch and verify models. `dvc repro` trains and publishes them."
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for group in (releases, approve, trust, watch, check, profile, keys, audit, answers):
        group.add_to(commands)
    return whole
