"""``python -m services.classifier``: ``bentoml serve`` with the environment a hospital wants by default.

That is: no usage reports to the makers of BentoML and MLflow, state below ``.buckler``, bound to loopback.
Arguments go on to ``bentoml serve``; variables that are set stay.
"""

import os
import sys
from pathlib import Path

DEFAULTS = {
    "BENTOML_DO_NOT_TRACK": "True",  # has to be there before BentoML is loaded, hence the new process
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "BENTOML_HOME": str(Path(".buckler/bentoml").resolve()),
}
SERVICE = "services.classifier.service:Classifier"


def main() -> None:
    """Replace this process by the server."""
    arguments = sys.argv[1:]
    if not any(each == "--host" or each.startswith("--host=") for each in arguments):
        arguments = ["--host", os.environ.get("BUCKLER_HOST", "127.0.0.1"), *arguments]
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, *arguments]
    os.execve(sys.executable, command, {**DEFAULTS, **os.environ})  # noqa: S606 - no shell, fixed program


if __name__ == "__main__":
    main()
