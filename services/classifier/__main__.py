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
from buckler.state import parents, paths, startup
from services.classifier.edge import supervisor
from services.classifier.settings import Settings

# BentoML, MLflow and NumPy read them when they are imported, so nothing that this module imports may import those. The
# C library reads its own when a worker starts.
DEFAULTS = {
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "BENTOML_HOME": str(paths.BENTOML.resolve()),
    # For the detector's small matrix products, several threads take a hundred times as long and use the cores that the
    # network needs.
    "OPENBLAS_NUM_THREADS": "1",
    # By default, the C library keeps freed memory apart for nearly every thread.
    "MALLOC_ARENA_MAX": "2",
}
SERVICE = "services.classifier.service:Classifier"


def main() -> None:
    """Become the server's supervisor."""
    try:
        startup.begin()
        arguments, environment = server(sys.argv[1:])
    except BucklerError as error:
        sys.exit(f"error: {error}")
    os.environ.update(environment)
    os.environ.update(parents.ending_with_this_process())  # for its workers
    supervisor.main(arguments)


def server(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of ``bentoml`` and its environment.

    Raises:
        ParamsError: A setting of the service is invalid.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # As in BentoML, the last of several hosts counts; BentoML gets only that one.
    parser.add_argument("--host", default=Settings.from_env().host)
    known, others = parser.parse_known_args(arguments)
    command = ["serve", SERVICE, "--host", known.host, *others]
    # The address decides whether keys are required, so a value from the environment is always replaced.
    return command, {**DEFAULTS, **os.environ, "BUCKLER_BOUND_HOST": known.host}


if __name__ == "__main__":
    main()
