"""BentoML's own command, with a supervisor that looks for dead workers every second instead of every ten.

A worker that was killed should be back before a client gives up. BentoML has no setting for it: the number is a default
of the function that makes the supervisor, which is replaced here by itself with another.
"""

from functools import partial

LOOK_SECONDS = 1.0


def main() -> None:
    """Run ``bentoml`` with the arguments of this process."""
    from bentoml._internal.utils import circus
    from bentoml_cli.cli import cli

    circus.create_standalone_arbiter = partial(circus.create_standalone_arbiter, check_delay=LOOK_SECONDS)
    cli(prog_name="bentoml")


if __name__ == "__main__":
    main()
