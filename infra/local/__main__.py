"""Runs the platform as processes on this machine: `python -m infra.local up | down | demo`.

Each server has a pid file and a log in .buckler/run/. BUCKLER_MLFLOW_PORT, BUCKLER_SERVICE_PORT, BUCKLER_WATCH_PORT,
BUCKLER_CONSOLE_PORT, BUCKLER_PROMETHEUS_PORT and BUCKLER_ALERTMANAGER_PORT set the ports; without them a server takes
its default port or the next free one. Prometheus and Alertmanager are started if they are installed. The service is
bound to loopback and asks for no keys. If it should (BUCKLER_REQUIRE_KEYS=always, or another BUCKLER_HOST), set
BUCKLER_CLIENT_KEY for demo and console, BUCKLER_WATCH_KEY for the watch, and BUCKLER_SCRAPE_KEY_FILE to the file with
Prometheus' key.
"""

import argparse
import signal
import sys
from pathlib import Path

from buckler.errors import FolderError
from buckler.state import exits, startup
from infra.local import places, servers
from infra.local.places import LocalError

INTERRUPTED = 130  # exit code, as of a shell


def main() -> None:
    """Parse the command line and run the action."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("action", choices=("up", "down", "demo"))
    parser.add_argument("--results", type=Path, help="folder into which `demo` writes its times, docs/results")
    parser.add_argument(
        "--stop", action="store_true", help="stop the servers after `demo`; the default if the output is no terminal"
    )
    given = parser.parse_args()
    # A script's background process inherits that SIGINT is ignored, and would pass it on to the stages, which must end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, signal.default_int_handler)
    try:
        if given.action == "down":
            ran = servers.stop()
            print(f"  stopped {', '.join(ran)}" if ran else "  no server runs")
            return
        startup.begin(places.ROOT)
        places.refuse_root()
        if given.action == "up":
            from infra.local import champion

            champion.say()
            servers.up()
        else:
            from infra.local import demo

            demo.run(stop=given.stop or not sys.stdout.isatty(), out=given.results)
    except (FolderError, LocalError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {exits.explain(error)}")
    except KeyboardInterrupt:
        print("\ninterrupted: finished stages are kept, the next run resumes there", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
