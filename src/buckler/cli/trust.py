"""The command ``trust recover``: continues the signer's journal after records were lost."""

import argparse
from typing import Any

from buckler.cli.parsers import add


def add_to(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    trust = commands.add_parser("trust", help="the journal of signed promotions and standings")
    actions = trust.add_subparsers(required=True, metavar="ACTION")
    recover = add(
        actions,
        "recover",
        _recover,
        "continue the journal after it was lost, shortened or damaged: sign that you take over every valid record that"
        " journal, registry and watch still have",
    )
    recover.add_argument("--by", metavar="NAME", required=True, help="who takes the responsibility; is signed")
    recover.add_argument("--reason", metavar="TEXT", required=True, help="why; is signed")


def _recover(arguments: argparse.Namespace) -> int:
    from buckler.cli.releases import model_name
    from buckler.release.recover import recover
    from buckler.release.tracking import WritableRegistry

    result = recover(WritableRegistry(model_name()), person=arguments.by, reason=arguments.reason)
    print(f"recovered  {result.journal}")
    for line in result.lines:
        print(line)
    return 0
