"""The command ``watch``: runs the scheduled jobs and shows their history."""

import argparse
import dataclasses
import logging
from datetime import datetime
from typing import Any

from buckler.cli.parsers import add


def add_to(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    watch = add(commands, "watch", _watch, "run the scheduled jobs and serve their metrics")
    watch.add_argument("--history", metavar="JOB", nargs="?", const="", help="show the last runs of JOB; default: all")
    watch.add_argument("--log", metavar="N", type=int, help="show the log of run N of the history")
    watch.add_argument("--attempt", type=int, default=1, help=argparse.SUPPRESS)
    watch.add_argument(
        "--once",
        metavar="JOB",
        help="run one job now; exit code 0, 1, 2: passed, failed its gate, could not run",
    )
    watch.add_argument("--host", help="address to serve metrics on instead of watch.host")
    watch.add_argument("--port", type=int, help="port to serve metrics on instead of watch.port")


def _watch(arguments: argparse.Namespace) -> int:
    from buckler import params, watch
    from buckler.watch import logs, table

    if arguments.log is not None:
        print(logs.read(arguments.log), end="")
        return 0
    if arguments.history is not None:
        return _history(arguments.history or None)
    if arguments.once is not None:
        table.check_name(arguments.once)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    cfg = params.load("watch", watch.WatchParams)
    if arguments.once is not None:
        run = watch.run_once(arguments.once, cfg=cfg, attempt=arguments.attempt)
        print(f"{run.job} {run.outcome} after {run.seconds:.1f} s: {run.message}")
        return watch.EXIT_CODES[run.outcome or "error"]
    watch.serve(dataclasses.replace(cfg, host=arguments.host or cfg.host, port=arguments.port or cfg.port))
    return 0


def _history(job: str | None) -> int:
    from buckler import watch
    from buckler.watch import table

    if job is not None:
        table.check_name(job)
    with watch.History() as history:
        runs = history.runs(job)
    for run in runs:
        began = datetime.fromtimestamp(run.started_at).astimezone().isoformat(timespec="seconds")
        lasted = "" if run.seconds is None else f"{run.seconds:.1f} s"
        attempt = f" (attempt {run.attempt})" if run.attempt > 1 else ""
        print(f"{run.number:6}  {began}  {lasted:>9}  {run.job} {run.outcome or 'running'}{attempt}: {run.message}")
    return 0
