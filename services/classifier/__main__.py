"""``python -m services.classifier``: ``bentoml serve`` with safe defaults for a hospital.

It sends no usage data of BentoML and MLflow, keeps its state below ``.buckler`` and binds to loopback; on any other
address, clients need a key. Arguments are passed to ``bentoml serve``; environment variables that are set take
precedence.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from buckler.errors import BucklerError
from buckler.state import paths
from services.classifier.settings import Settings

DEFAULTS = {
    "BENTOML_DO_NOT_TRACK": "True",  # read when BentoML is imported, hence the new process
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "BENTOML_HOME": str(paths.BENTOML.resolve()),
    # For the detector's small matrix products, several threads take a hundred times as long and use the cores that the
    # network needs. NumPy reads this when it is imported.
    "OPENBLAS_NUM_THREADS": "1",
}
SERVICE = "services.classifier.service:Classifier"


def main() -> None:
    """Replace this process with the server."""
    try:
        command, environment = server(sys.argv[1:])
    except BucklerError as error:
        sys.exit(f"error: {error}")
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell, fixed program


def server(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command of the server and its environment.

    Raises:
        ParamsError: A setting of the service is invalid.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # As in BentoML, the last of several hosts counts; BentoML gets only that one.
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
    # The address decides whether keys are required, so a value from the environment is always replaced.
    return command, {**DEFAULTS, **os.environ, "BUCKLER_BOUND_HOST": known.host}


if __name__ == "__main__":
    main()
