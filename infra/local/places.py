"""What the modules of this folder share: folders, the environment of child processes, the error for the user."""

import os
import sys
from pathlib import Path

from buckler.state import owners, paths

ALLOW_ROOT = "BUCKLER_ALLOW_ROOT"
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


class LocalError(Exception):
    """A problem that the user can fix, as the message explains."""


def run_directory() -> Path:
    """Return the folder of pid files, logs and ports."""
    return ROOT / paths.RUN


def refuse_root() -> None:
    """Refuse to write as root into the folder of another user, who could then neither change nor replace the files.

    Raises:
        LocalError: That is so, and BUCKLER_ALLOW_ROOT is not set.
    """
    if os.geteuid() == 0 and ROOT.stat().st_uid != 0 and not os.environ.get(ALLOW_ROOT):
        user = owners.owner(ROOT)
        raise LocalError(
            f"expected {user}, whose folder {ROOT} is, got root: {user} could not use root's files afterwards; "
            f"run it without sudo, or set {ALLOW_ROOT}=1"
        )


def environment() -> dict[str, str]:
    """Return the environment of child processes."""
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    # No usage data goes to the vendors of the tools.
    silent = {
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "true",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return {**os.environ, **silent, "PATH": path}
