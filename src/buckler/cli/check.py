"""The command ``check``: tells whether a folder of pictures will do, before anything runs."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from buckler.cli.parsers import add
from buckler.cli.profile import add_settings


def add_to(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    check = add(
        commands,
        "check",
        _check,
        "tell whether a folder of pictures will do, and how long a run may take; exit code 1 if it will not",
    )
    add_arguments(check)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to ``parser``."""
    contents = "folder with one folder of pictures for each class, or with pictures and their table"
    parser.add_argument("folder", metavar="DIR", type=Path, help=contents)
    parser.add_argument("--profile", metavar="NAME", help="check for this profile; default: the values in params.yaml")
    add_settings(parser, "a value instead of the one in params.yaml or the profile, as YAML; repeatable")
    parser.add_argument("--no-time", action="store_true", help="do not estimate how long a run will take")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _check(arguments: argparse.Namespace) -> int:
    options = [f"--profile={arguments.profile}"] if arguments.profile else []
    options += [f"--set={setting}" for setting in arguments.settings]
    options += ["--no-time"] * arguments.no_time + ["--json"] * arguments.json
    # The package does not import the pipeline, whose settings decide what a folder needs.
    command = [sys.executable, "-m", "pipelines.check", *options, "--", str(arguments.folder)]
    os.execv(sys.executable, command)  # noqa: S606 - this interpreter; interrupts and exit code are the check's own
