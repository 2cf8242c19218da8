"""The schedule: due times that outlast a restart, runs in processes of their own, and the metrics' server."""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server

from buckler.errors import BucklerError, ParamsError
from buckler.state import paths
from buckler.state.database import Database
from buckler.watch import locks
from buckler.watch.exporter import Exporter
from buckler.watch.history import EXIT_CODES, URL_ENV, History, database_url
from buckler.watch.settings import JobParams, WatchParams
from buckler.watch.table import JOBS

TABLE = "buckler_watch_jobs"
STOP_SECONDS = 10  # what a job gets to end in when the watch is stopped
GRACE_SECONDS = 30  # after which a job that does not end itself at its limit is killed
LOOK_SECONDS = 20.0  # how often the watch looks for runs that were killed with another watch
LOOKED_AHEAD = 400  # due times, to find the longest pause between two

log = logging.getLogger(__name__)


def serve(cfg: WatchParams) -> None:
    """Run the jobs at their times and serve metrics until SIGTERM or SIGINT.

    Raises:
        BucklerError: The address is taken.
        ParamsError: A cron expression cannot be read.
    """
    _stopping.clear()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stopping.set())
    registry = CollectorRegistry()
    registry.register(Exporter(periods={name: period(name, job) for name, job in cfg.jobs.items()}))
    try:
        server, thread = start_http_server(cfg.port, cfg.host, registry)
    except OSError as error:
        raise BucklerError(
            f"cannot serve metrics on {cfg.host}:{cfg.port} ({error.strerror}); "
            "watch.host and watch.port in params.yaml name another address"
        ) from error
    scheduler = build_scheduler(cfg)
    log.info("metrics on http://%s:%s/metrics", cfg.host, cfg.port)
    try:
        make_up(scheduler)
        while not _stopping.wait(LOOK_SECONDS):
            make_up(scheduler)
    finally:
        log.info("stopping")
        scheduler.shutdown(wait=False)
        _end_children()
        server.shutdown()
        server.server_close()
        thread.join()


def build_scheduler(cfg: WatchParams) -> Any:
    """Return a running scheduler with every job of ``JOBS``.

    The times at which jobs are due outlast a restart: what was missed meanwhile is made up for, once.

    Raises:
        ParamsError: A cron expression cannot be read.
        DatabaseError: The schedule's database cannot be used.
    """
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.background import BackgroundScheduler

    triggers = {name: _trigger(name, job) for name, job in cfg.jobs.items()}
    database = Database(database_url(paths.WATCH_SCHEDULE), "schedule", named_by=URL_ENV, pooled=True)
    database.upgrade()
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(engine=database.engine, tablename=TABLE)},
        job_defaults={"coalesce": True, "max_instances": 1},
    )
    scheduler.start(paused=True)
    for job in scheduler.get_jobs():
        if job.id not in triggers:
            job.remove()
    for name, trigger in triggers.items():
        known = scheduler.get_job(name)
        # Adding a job again would forget when it was due; only another schedule makes a new date.
        due = {"next_run_time": known.next_run_time} if known and repr(known.trigger) == repr(trigger) else {}
        scheduler.add_job(
            "buckler.watch.schedule:run_scheduled",
            trigger,
            args=[name, _retries(cfg.jobs[name])],
            id=name,
            name=name,
            replace_existing=True,
            misfire_grace_time=cfg.jobs[name].misfire_grace_seconds,
            **due,
        )
        log.info("%s is next due at %s", name, scheduler.get_job(name).next_run_time)
    scheduler.resume()
    return scheduler


def make_up(scheduler: Any) -> None:
    """Let each job that was killed in the middle begin again now; it goes on where it stopped, if it can.

    A run that outlived the watch that started it is left alone: it holds its lock.
    """
    history = History()
    for name in JOBS:
        if history.unfinished(name) and name not in _running:
            try:
                with locks.locked(name):
                    history.interrupt(name)
            except BucklerError:
                continue
            log.info("%s was interrupted and begins again", name)
            scheduler.modify_job(name, next_run_time=datetime.now(UTC))


def period(name: str, job: JobParams) -> float:
    """Return the longest time between two due runs, jitter included, in seconds.

    Raises:
        ParamsError: The cron expression cannot be read.
    """
    trigger = _trigger(name, job)
    trigger.jitter = None
    now = datetime.now(UTC)
    before, longest = trigger.get_next_fire_time(None, now), 0.0
    for _ in range(LOOKED_AHEAD):
        after = trigger.get_next_fire_time(before, before)
        if after is None:
            break
        longest, before = max(longest, (after - before).total_seconds()), after
    return longest + job.jitter_seconds


def _trigger(name: str, job: JobParams) -> Any:
    from apscheduler.triggers.cron import CronTrigger

    try:
        trigger = CronTrigger.from_crontab(job.cron)
    except ValueError as error:
        raise ParamsError(
            f"params.yaml: watch.jobs.{name}.cron: {job.cron!r} is no cron expression: {error}"
        ) from error
    trigger.jitter = job.jitter_seconds or None
    return trigger


def _retries(job: JobParams) -> dict[str, float]:
    # Plain values: the store keeps them, and must be readable by the next version of this package.
    return {"retries": job.retries, "backoff": job.backoff_seconds, "limit": job.limit_seconds}


_stopping = threading.Event()
_running: set[str] = set()
_children: set["subprocess.Popen[bytes]"] = set()


def run_scheduled(name: str, trying: Mapping[str, float]) -> None:
    """Run job ``name`` in a process of its own, again after an error, and wait for it; the scheduler calls this."""
    _running.add(name)
    try:
        for attempt in range(1, int(trying["retries"]) + 2):
            if attempt > 1 and _stopping.wait(trying["backoff"] * 2 ** (attempt - 2)):
                return
            if _run(name, attempt, trying["limit"]) != EXIT_CODES["error"] or _stopping.is_set():
                return
    finally:
        _running.discard(name)


def _run(name: str, attempt: int, limit: float) -> int:
    """Return the exit code of one attempt; whoever was killed, by whomever, ended in an error."""
    log.info("%s starts, attempt %d", name, attempt)
    command = [sys.executable, "-m", "buckler.cli", "watch", "--once", name, "--attempt", str(attempt)]
    child = subprocess.Popen(command)  # noqa: S603
    _children.add(child)
    try:
        code = child.wait(limit + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        log.error("%s does not end and is killed", name)
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
