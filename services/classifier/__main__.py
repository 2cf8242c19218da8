"""``python -m services.classifier``: ``bentoml serve`` with the environment a hospital wants by default.

That is: no usage reports to the makers of BentoML and MLflow, state below ``.buckler``, bound to loopback, and
bound to anything else only for clients with a key. Arguments go on to ``bentoml serve``; variables that are set stay.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from buckler.errors import BucklerError
from buckler.state import paths
from services.classifier.settings import Settings

DEFAULTS = {
    "BENTOML_DO_NOT_TRACK": "True",  # has to be there before BentoML is loaded, hence the new process
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "BENTOML_HOME": str(paths.BENTOML.resolve()),
    # The detector's products are small: several threads spend a hundred times their time waiting for each other, on the
    # cores that the network needs. NumPy reads this once, when it is loaded.
    "OPENBLAS_NUM_THREADS": "1",
}
SERVICE = "services.classifier.service:Classifier"


def main() -> None:
    """Replace this process by the server."""
    try:
        command, environment = server(sys.argv[1:])
    except BucklerError as error:
        sys.exit(f"error: {error}")
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell, fixed program


def server(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves, and its environment.

    Raises:
        ParamsError: A setting of the service is wrong.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # Of several the last counts, as with BentoML itself; it gets one, so that both mean the same.
    parser.add_argument("--host", default=Settings.from_env().host)
    known, others = parser.parse_known_args(arguments)
    command = [
        sys.executable,
        "-m",
        "services.classifier.edge.supervisor",
        "serve",
        SERVICE,
        "--host",
        known.host,
        *others,
    ]
    # Whether the service asks for keys depends on it, so the variable is never taken over from outside.
    return command, {**DEFAULTS, **os.environ, "BUCKLER_BOUND_HOST": known.host}


if __name__ == "__main__":
    main()
