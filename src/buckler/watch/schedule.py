"""The schedule: stores due times across restarts, runs each job in a child process and serves the metrics."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server

from buckler.errors import BucklerError, DatabaseError
from buckler.state import parents, paths
from buckler.state.database import Database
from buckler.watch import locks
from buckler.watch.exporter import Exporter
from buckler.watch.history import EXIT_CODES, URL_ENV, History, database_url
from buckler.watch.settings import JobParams, WatchParams
from buckler.watch.table import JOBS

TABLE = "buckler_watch_jobs"
STOP_SECONDS = 10  # from SIGTERM to SIGKILL for a job, when the watch stops
GRACE_SECONDS = 30  # from a job's own time limit to SIGKILL
RESUME_SECONDS = 20.0  # between two searches for interrupted runs
LOCK_SECONDS = 5.0  # for the schedule of another watch, if its database is a file

log = logging.getLogger(__name__)


def serve(cfg: WatchParams) -> None:
    """Run the jobs at their times and serve metrics until SIGTERM or SIGINT.

    Raises:
        BucklerError: The address of the metrics is taken.
        ParamsError: A cron expression is invalid.
        DatabaseError: The database of the schedule or of the history cannot be used.
    """
    _stopping.clear()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stopping.set())
    with History() as history, _metrics_served(cfg, history):
        scheduler = build_scheduler(cfg)
        try:
            resume_interrupted(scheduler, history)
            while not _stopping.wait(RESUME_SECONDS):
                with _outlasting_a_busy_database():
                    resume_interrupted(scheduler, history)
        finally:
            log.info("stopping")
            scheduler.shutdown(wait=False)
            _end_children()


@contextmanager
def _outlasting_a_busy_database() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        if not error.passing:
            raise
        log.warning("cannot look for interrupted runs, trying again in %g s: %s", RESUME_SECONDS, error)


@contextmanager
def _metrics_served(cfg: WatchParams, history: History) -> Iterator[None]:
    from buckler.watch import due_times

    registry = CollectorRegistry()
    registry.register(Exporter(history, {name: due_times.period(name, job) for name, job in cfg.jobs.items()}))
    try:
        server, thread = start_http_server(cfg.port, cfg.host, registry)
    except OSError as error:
        raise BucklerError(
            f"cannot serve metrics on {cfg.host}:{cfg.port} ({error.strerror}); "
            "set another address in watch.host and watch.port of params.yaml, or with --host and --port"
        ) from error
    log.info("metrics on http://%s:%s/metrics", cfg.host, cfg.port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def build_scheduler(cfg: WatchParams) -> Any:
    """Return a running scheduler with every job of ``JOBS``.

    Due times are stored across restarts. A job that became due once or more while the watch was off runs once. A due
    time that the schedule cannot have led to is put right, now and while the scheduler runs.

    Raises:
        ParamsError: A cron expression is invalid.
        DatabaseError: The schedule's database cannot be used.
    """
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

    from buckler.watch import due_times
    from buckler.watch.scheduler import Scheduler

    triggers = {name: due_times.trigger_of(name, job) for name, job in cfg.jobs.items()}
    database = Database(
        database_url(paths.WATCH_SCHEDULE), "schedule", named_by=URL_ENV, pooled=True, lock_seconds=LOCK_SECONDS
    )
    database.upgrade()
    scheduler = Scheduler(
        database,
        jobstores={"default": SQLAlchemyJobStore(engine=database.engine, tablename=TABLE)},
        job_defaults={"coalesce": True, "max_instances": 1},
    )
    with database.explained():
        scheduler.start(paused=True)
        for job in scheduler.get_jobs():
            if job.id not in triggers:
                job.remove()
        scheduler.put_due_times_right()
        for name, trigger in triggers.items():
            _add(scheduler, name, trigger, cfg.jobs[name])
        scheduler.resume()
    return scheduler


def _add(scheduler: Any, name: str, trigger: Any, job: JobParams) -> None:
    known = scheduler.get_job(name)
    # Adding a job computes a new due time; keep the stored one unless the trigger has changed.
    due = {"next_run_time": known.next_run_time} if known and repr(known.trigger) == repr(trigger) else {}
    scheduler.add_job(
        "buckler.watch.schedule:run_scheduled",
        trigger,
        args=[name, _retries(job)],
        id=name,
        name=name,
        replace_existing=True,
        misfire_grace_time=job.misfire_grace_seconds,
        **due,
    )
    log.info("%s is next due at %s", name, scheduler.get_job(name).next_run_time)


def resume_interrupted(scheduler: Any, history: History) -> None:
    """Start each job whose last run was killed again, now; a job that keeps a journal resumes from it.

    A run that somebody else started holds its lock and continues undisturbed.
    """
    for name in JOBS:
        if history.unfinished(name) and name not in _running:
            try:
                with locks.locked(name):
                    history.interrupt(name)
            except BucklerError:
                continue
            log.info("%s was interrupted and starts again", name)
            scheduler.run_now(name)


def _retries(job: JobParams) -> dict[str, float]:
    # Only plain values: the next version of this package must be able to read the stored job.
    return {"retries": job.retries, "backoff": job.backoff_seconds, "limit": job.limit_seconds}


_stopping = threading.Event()
_running: set[str] = set()
_children: set["subprocess.Popen[bytes]"] = set()


def run_scheduled(name: str, retrying: Mapping[str, float]) -> None:
    """Run job ``name`` in a child process, retry it after errors, and wait for the end; the scheduler calls this.

    Args:
        name: Name of the job.
        retrying: ``retries``; ``backoff``, seconds before the first retry, doubled before each further one;
            ``limit``, seconds for each attempt.
    """
    _running.add(name)
    try:
        for attempt in range(1, int(retrying["retries"]) + 2):
            if attempt > 1 and _stopping.wait(retrying["backoff"] * 2 ** (attempt - 2)):
                return
            if _run(name, attempt, retrying["limit"]) != EXIT_CODES["error"] or _stopping.is_set():
                return
    finally:
        _running.discard(name)


def _run(name: str, attempt: int, limit: float) -> int:
    """Return the exit code of one attempt; a killed process counts as an error."""
    log.info("%s starts, attempt %d", name, attempt)
    command = [sys.executable, "-m", "buckler.cli", "watch", "--once", name, "--attempt", str(attempt)]
    child = subprocess.Popen(command, env={**os.environ, **parents.ending_with_this_process()})  # noqa: S603
    _children.add(child)
    try:
        code = child.wait(limit + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        log.error("%s exceeded its time limit and is killed", name)
        child.kill()
        code = child.wait()
    finally:
        _children.discard(child)
    log.info("%s ended with exit code %s", name, code)
    return code if code >= 0 else EXIT_CODES["error"]


def _end_children() -> None:
    for child in tuple(_children):
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
