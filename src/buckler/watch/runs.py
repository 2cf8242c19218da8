"""One run of a job: exclusive, time-limited, logged, and followed by the policy."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from buckler.errors import BucklerError
from buckler.watch import locks, logs, policy
from buckler.watch.history import EXIT_CODES, History, Outcome, Run
from buckler.watch.jobs import load_job
from buckler.watch.settings import WatchParams
from buckler.watch.table import check_name

DRAIN_SECONDS = 0.2  # for the log to be written

log = logging.getLogger(__name__)


def run_once(name: str, *, cfg: WatchParams | None = None, attempt: int = 1) -> Run:
    """Run job ``name`` in this process, record it in the history and return its outcome.

    Args:
        name: Name in the table.
        cfg: Time limit and policy; without it neither applies.
        attempt: Number of this attempt at the same due run, from 1.

    Raises:
        BucklerError: The job does not exist or is already running; neither is recorded.
    """
    check_name(name)
    with History() as history, locks.locked(name):
        number, began = history.start(name, attempt), time.monotonic()

        def end(outcome: Outcome, message: str) -> None:
            history.finish(number, time.monotonic() - began, outcome, message)

        limit = cfg.jobs[name].limit_seconds if cfg else None
        with logs.captured(name, number), _ended_after(limit, end):
            log.info("%s, run %d, attempt %d", name, number, attempt)
            outcome, message = _outcome(name, cfg, history)
            log.info("%s %s: %s", name, outcome, message)
        end(outcome, message)
        (run,) = history.runs(name, limit=1)
        return run


def _outcome(name: str, cfg: WatchParams | None, history: History) -> tuple[Outcome, str]:
    try:
        finding = load_job(name)()  # inside the try: a job that cannot be imported is recorded as an error
        done = policy.follow(name, finding, cfg, history) if cfg else []
    except BucklerError as error:
        return _error(name, cfg, str(error))
    except Exception as error:
        # The history must record every failure; the traceback goes to the log.
        log.exception("job %s raised an unexpected error", name)
        return _error(name, cfg, f"{type(error).__name__}: {error}")
    return ("passed" if finding.passed else "failed"), "; ".join([finding.message, *done])


def _error(name: str, cfg: WatchParams | None, message: str) -> tuple[Outcome, str]:
    if cfg:  # whoever deletes the alias makes the jobs impossible, which must not hide what the registry lost
        policy.compare_records(name)
    return "error", message


@contextmanager
def _ended_after(seconds: float | None, end: Callable[[Outcome, str], None]) -> Iterator[None]:
    """End this process if the block takes longer; the watch, which may be killed, cannot enforce the limit."""
    if seconds is None:
        yield
        return

    def give_up() -> None:
        message = f"took longer than {seconds:g} s and was ended"
        log.error("%s", message)
        end("error", message)
        time.sleep(DRAIN_SECONDS)
        os._exit(EXIT_CODES["error"])

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
