"""Adds commands to the parser, and parses arguments that several commands share."""

import argparse
import re
from collections.abc import Callable
from typing import Any

Command = Callable[[argparse.Namespace], int]  # returns the exit code


def add(commands: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """Add ``command`` to a group of subparsers under ``name``, described by ``text``; return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=command)
    return parser


def digest(text: str) -> str:
    """Return ``text`` if it is a SHA-256 digest.

    Raises:
        argparse.ArgumentTypeError: It is not.
    """
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"expected sha256: and 64 hexadecimal digits, got {text!r}")
    return text


def count(text: str) -> int:
    """Return the number of lines in ``text``.

    Raises:
        argparse.ArgumentTypeError: ``text`` is not a number of at least 0.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of lines, got {text!r}")
    return int(text)
