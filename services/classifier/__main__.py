"""``python -m services.classifier``: ``bentoml serve`` with the environment a hospital wants by default.

That is: no usage reports to the makers of BentoML and MLflow, state below ``.buckler``, bound to loopback, and
bound to anything else only for clients with a key. Arguments go on to ``bentoml serve``; variables that are set stay.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from buckler.state import paths

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
    command, environment = server(sys.argv[1:], os.environ)
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell, fixed program


def server(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves, and its environment."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # Of several the last counts, as with BentoML itself; it gets one, so that both mean the same.
    parser.add_argument("--host", default=environ.get("BUCKLER_HOST") or "127.0.0.1")
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
    return command, {**DEFAULTS, **environ, "BUCKLER_BOUND_HOST": known.host}


if __name__ == "__main__":
    main()
