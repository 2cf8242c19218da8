"""``python -m services.console``: the page for people, bound to loopback unless BUCKLER_CONSOLE_HOST says so.

Bound to another address, people sign in with a key (`buckler keys`); see ``services/console/settings.py``.
"""

import logging
import os
import sys

# Before TensorFlow is loaded, whenever that is: it would tell of its own affairs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import uvicorn

from buckler.errors import BucklerError
from services.console.app import create
from services.console.settings import Settings

logger = logging.getLogger("buckler.console")


def main() -> None:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It writes a line for each request, addresses included.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = Settings.from_env()
    except BucklerError as error:
        sys.exit(f"error: {error}")
    asked = "keys are asked for" if settings.keys_required else "no keys are asked for"
    logger.info("http://%s:%s, %s", settings.console_host, settings.console_port, asked)
    uvicorn.run(
        create(settings),
        host=settings.console_host,
        port=settings.console_port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
