"""The command ``profile``: writes the values of a profile into params.yaml."""

import argparse
from typing import Any

from buckler.cli.parsers import add
from buckler.errors import ParamsError


def add_to(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    profile = add(commands, "profile", _profile, "write the values of a profile into params.yaml")
    profile.add_argument("name", help="name of the profile, a key of `profiles` in params.yaml")
    add_settings(profile, "another value to write, as YAML; repeatable")


def _profile(arguments: argparse.Namespace) -> int:
    from buckler import params

    params.apply_profile(arguments.name, settings_of(arguments))
    print(f"params.yaml now has the values of profile {arguments.name!r}; `git diff params.yaml` shows them")
    return 0


def add_settings(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the option ``--set``, described by ``text``."""
    parser.add_argument("--set", metavar="SECTION.KEY=VALUE", dest="settings", action="append", default=[], help=text)


def settings_of(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the values that ``--set`` gives, by key.

    Raises:
        ParamsError: One is not ``section.key=value`` with a value in YAML.
    """
    return dict(_setting(text) for text in arguments.settings)


def _setting(text: str) -> tuple[str, object]:
    import yaml

    key, sign, value = text.partition("=")
    if not sign or "." not in key:
        raise ParamsError(f"--set: expected section.key=value, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ParamsError(f"--set {key}: {value!r} is not valid YAML") from error
