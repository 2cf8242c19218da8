"""``python -m services.console``: web pages for clinicians and engineers, bound to loopback by default.

If ``BUCKLER_CONSOLE_HOST`` is another address, people sign in with a key (`buckler keys`). The settings are in
``services/console/settings.py``.
"""

import logging
import os
import sys

# TensorFlow reads this when it is loaded, at the first attack; it hides messages about its internals.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import uvicorn

from buckler.errors import BucklerError
from buckler.state import startup
from services.classifier.edge.heads import StrictProtocol
from services.console.app import create
from services.console.settings import Settings

logger = logging.getLogger("buckler.console")


def main() -> None:
    """Serve until a signal ends the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # At INFO, httpx logs the URL of every request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        startup.begin()
        settings = Settings.from_env()
    except BucklerError as error:
        sys.exit(f"error: {error}")
    sign_in = "sign-in required" if settings.keys_required else "no sign-in required"
    logger.info("http://%s:%s, %s", settings.console_host, settings.console_port, sign_in)
    uvicorn.run(
        create(settings),
        host=settings.console_host,
        port=settings.console_port,
        http=StrictProtocol,
        ws="none",
        proxy_headers=False,  # the application reads them, from the proxies of the settings
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
