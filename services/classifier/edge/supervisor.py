"""BentoML's command, with a supervisor that checks for dead workers every second instead of every ten.

A killed worker should be replaced before clients give up. BentoML has no setting for the interval, so the function
that creates the supervisor is replaced by one with another default.
"""

from collections.abc import Sequence
from functools import partial

CHECK_SECONDS = 1.0


def main(arguments: Sequence[str]) -> None:
    """Run ``bentoml`` with ``arguments``."""
    from bentoml._internal.utils import circus
    from bentoml_cli.cli import cli

    circus.create_standalone_arbiter = partial(circus.create_standalone_arbiter, check_delay=CHECK_SECONDS)
    cli(list(arguments), prog_name="bentoml")
