"""Runs jobs on a schedule, keeps their history, and tells Prometheus about both.

Each scheduled run is a process of its own, the same command that an external scheduler would start
(``buckler watch --once JOB``): it may crash, be killed or outlive the scheduler and takes nothing along, and
its memory goes when it ends. All state is on disk below ``.buckler/watch``; the exporter reads it at each
scrape, so that a restart loses nothing and runs started elsewhere count too.
"""

import fcntl
import importlib
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from buckler.errors import BucklerError, ParamsError

log = logging.getLogger(__name__)

STATE = Path(".buckler/watch")
SCHEDULE_FILE = "jobs.db"
HISTORY_FILE = "history.db"

Outcome = Literal["passed", "failed", "error"]
OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "error")
EXIT_CODES: dict[Outcome, int] = {"passed": 0, "failed": 1, "error": 2}

# By name, not by import: what a job does lies above this package, and TensorFlow loads only where it runs.
JOBS = {"reevaluate": "pipelines.jobs.reevaluate:run", "drift": "pipelines.jobs.drift:run"}

STOP_SECONDS = 10  # what a job gets to end in when the watch is stopped


@dataclass(frozen=True, slots=True)
class WatchParams:
    """Section ``watch`` of params.yaml.

    Attributes:
        reevaluate_cron: When to attack the champion again: minute, hour, day, month, weekday (by name).
        jitter_seconds: Random delay, so that many machines do not start at once.
        misfire_grace_seconds: A run missed by less, because the machine was off, is made up for once.
        attack: Name of the attack.
        epsilon_255: Its radii in 1/255.
        steps: Its steps, where it has any; 0 takes its own.
        images: Test pictures attacked; 0 takes all.
        seed: Of their choice and of the attack.
        host: Address that the metrics are served on.
        port: Port of that.
    """

    reevaluate_cron: str
    jitter_seconds: int
    misfire_grace_seconds: int
    attack: str
    epsilon_255: tuple[int, ...]
    steps: int
    images: int
    seed: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a job found: ``passed``, or not and why."""

    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Run:
    """A line of the history; ``seconds`` and ``outcome`` are None while it lasts."""

    job: str
    started_at: float
    seconds: float | None
    outcome: Outcome | None
    message: str


class History:
    """The runs of all jobs, in a SQLite file that any process may write to."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or STATE / HISTORY_FILE

    def start(self, job: str) -> int:
        """Note that ``job`` begins and return the run's number; what it left unfinished is noted as an error.

        Only the holder of the job's lock may call this.
        """
        with self._connected() as database:
            database.execute(
                "UPDATE runs SET outcome = 'error', seconds = 0, message = 'was interrupted' "
                "WHERE job = ? AND outcome IS NULL",
                (job,),
            )
            row = database.execute("INSERT INTO runs (job, started_at) VALUES (?, ?)", (job, time.time()))
            return int(row.lastrowid or 0)

    def finish(self, number: int, seconds: float, outcome: Outcome, message: str) -> None:
        """Note how run ``number`` ended."""
        with self._connected() as database:
            database.execute(
                "UPDATE runs SET seconds = ?, outcome = ?, message = ? WHERE id = ?",
                (seconds, outcome, message, number),
            )

    def runs(self, job: str | None = None, limit: int = 100) -> list[Run]:
        """Return the latest runs, newest first."""
        with self._connected() as database:
            rows = database.execute(
                "SELECT job, started_at, seconds, outcome, message FROM runs "
                "WHERE ? IS NULL OR job = ? ORDER BY id DESC LIMIT ?",
                (job, job, limit),
            )
            return [Run(*row) for row in rows]

    def counts(self) -> dict[tuple[str, str], int]:
        """Return (job, outcome) -> number of finished runs."""
        with self._connected() as database:
            rows = database.execute(
                "SELECT job, outcome, count(*) FROM runs WHERE outcome IS NOT NULL GROUP BY job, outcome"
            )
            return {(job, outcome): count for job, outcome, count in rows}

    def latest(self, job: str, *, completed: bool) -> Run | None:
        """Return the last finished run of ``job``; ``completed``: the last that did not end in an error."""
        condition = "outcome IN ('passed', 'failed')" if completed else "outcome IS NOT NULL"
        with self._connected() as database:
            row = database.execute(
                "SELECT job, started_at, seconds, outcome, message FROM runs "  # noqa: S608
                f"WHERE job = ? AND {condition} ORDER BY id DESC LIMIT 1",
                (job,),
            ).fetchone()
            return Run(*row) if row else None

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, job TEXT NOT NULL, "
                "started_at REAL NOT NULL, seconds REAL, outcome TEXT, message TEXT NOT NULL DEFAULT '')"
            )
            yield database


# --- one run


def run_once(name: str, history: History | None = None) -> Run:
    """Run job ``name`` here and now, note it in the history, and return how it ended.

    Raises:
        BucklerError: No such job, or it is running already; neither is noted.
    """
    job = load_job(name)
    history = history or History()
    with _lock(name):
        number, began = history.start(name), time.monotonic()
        outcome, message = _outcome(name, job)
        history.finish(number, time.monotonic() - began, outcome, message)
    (run,) = history.runs(name, limit=1)
    return run


def load_job(name: str) -> Callable[[], Result]:
    """Return the function of job ``name``.

    Raises:
        BucklerError: There is no such job.
    """
    if name not in JOBS:
        raise BucklerError(f"expected a job of {sorted(JOBS)}, got {name!r}")
    module, _, function = JOBS[name].partition(":")
    job: Callable[[], Result] = getattr(importlib.import_module(module), function)
    return job


def _outcome(name: str, job: Callable[[], Result]) -> tuple[Outcome, str]:
    try:
        result = job()
    except BucklerError as error:
        return "error", str(error)
    except Exception as error:
        # The history must say so whatever happened; the traceback goes to the log.
        log.exception("job %s broke", name)
        return "error", f"{type(error).__name__}: {error}"
    return ("passed" if result.passed else "failed"), result.message


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Hold the job's lock; the kernel lets go of it when the process ends, however it does."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BucklerError(f"job {name} is running already; wait until it ends") from error
        yield


# --- what a job leaves for the exporter


def write_state(name: str, state: dict[str, Any]) -> None:
    """Replace what job ``name`` last found, at once."""
    STATE.mkdir(parents=True, exist_ok=True)
    aside = STATE / f".{name}.{os.getpid()}.json"
    aside.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    aside.replace(STATE / f"{name}.json")


def read_state(name: str) -> dict[str, Any] | None:
    """Return what job ``name`` last found; None if it never did or the file is damaged."""
    path = STATE / f"{name}.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        log.warning("%s is damaged and left out until the job has run again", path)
        return None
    return state if isinstance(state, dict) else None


class Exporter(Collector):
    """Metrics of the history and of what the jobs found, read anew at each scrape."""

    def __init__(self, history: History | None = None) -> None:
        self._history = history or History()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; a series of every job is there from the start, times of what never was are 0."""
        yield from self._jobs()
        state = read_state("reevaluate")
        if state is not None:
            yield from _reevaluation(state)

    def _jobs(self) -> Iterator[Metric]:
        counts = self._history.counts()
        runs = CounterMetricFamily("buckler_watch_runs", "Finished runs of scheduled jobs.", labels=["job", "outcome"])
        success = _gauge("buckler_watch_last_success_timestamp_seconds", "When the job last completed.", "job")
        last = _gauge("buckler_watch_last_run_timestamp_seconds", "When the job last ended, in an error too.", "job")
        duration = _gauge("buckler_watch_duration_seconds", "How long the last finished run took.", "job")
        for job in JOBS:
            for outcome in OUTCOMES:
                runs.add_metric([job, outcome], counts.get((job, outcome), 0))
            finished = self._history.latest(job, completed=False)
            success.add_metric([job], _ended(self._history.latest(job, completed=True)))
            last.add_metric([job], _ended(finished))
            duration.add_metric([job], (finished.seconds or 0) if finished else 0)
        yield from (runs, success, last, duration)


def _reevaluation(state: dict[str, Any]) -> Iterator[Metric]:
    passed = _gauge("buckler_gate_passed", "1 if the champion passed when last attacked again.", "model")
    passed.add_metric([state["model"]["name"]], int(state["passed"]))
    clean = _gauge("buckler_clean_accuracy_ratio", "Share right without attack, when last measured.")
    clean.add_metric([], state["clean_accuracy"]["value"])
    labels = ("attack", "epsilon_255")
    robust = _gauge("buckler_robust_accuracy_ratio", "Share right clean and attacked, when last measured.", *labels)
    low = _gauge("buckler_robust_accuracy_low_ratio", "Lower bound of its 95 % interval.", *labels)
    high = _gauge("buckler_robust_accuracy_high_ratio", "Upper bound of its 95 % interval.", *labels)
    for cell in state["cells"]:
        series = [cell["attack"], str(cell["epsilon_255"])]
        robust.add_metric(series, cell["robust_accuracy"]["value"])
        low.add_metric(series, cell["robust_accuracy"]["low"])
        high.add_metric(series, cell["robust_accuracy"]["high"])
    floor = _gauge(
        "buckler_robust_accuracy_floor_ratio",
        "Least worst-case robust accuracy up to the radius that the champion's verdict allows.",
        "epsilon_255",
    )
    for radius, share in state["floors"].items():
        floor.add_metric([radius], share)
    yield from (passed, clean, robust, low, high, floor)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)


def _ended(run: Run | None) -> float:
    return run.started_at + (run.seconds or 0) if run else 0


# --- the schedule


def serve(cfg: WatchParams) -> None:
    """Run the jobs at their times and serve metrics until SIGTERM or SIGINT.

    Raises:
        BucklerError: The address is taken.
        ParamsError: A cron expression cannot be read.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    registry = CollectorRegistry()
    registry.register(Exporter())
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
        stop.wait()
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
    """
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.background import BackgroundScheduler

    triggers = {"reevaluate": _trigger("reevaluate_cron", cfg.reevaluate_cron, cfg.jitter_seconds)}
    STATE.mkdir(parents=True, exist_ok=True)
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{STATE / SCHEDULE_FILE}")},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": cfg.misfire_grace_seconds},
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
            "buckler.watch:run_scheduled",
            trigger,
            args=[name],
            id=name,
            name=name,
            replace_existing=True,
            **due,
        )
        log.info("%s is next due at %s", name, scheduler.get_job(name).next_run_time)
    scheduler.resume()
    return scheduler


def _trigger(key: str, expression: str, jitter: int) -> Any:
    from apscheduler.triggers.cron import CronTrigger

    try:
        trigger = CronTrigger.from_crontab(expression)
    except ValueError as error:
        raise ParamsError(f"params.yaml: watch.{key}: {expression!r} is no cron expression: {error}") from error
    trigger.jitter = jitter or None
    return trigger


_children: set[subprocess.Popen[bytes]] = set()


def run_scheduled(name: str) -> None:
    """Run job ``name`` in a process of its own and wait for it; the scheduler calls this."""
    log.info("%s starts", name)
    child = subprocess.Popen([sys.executable, "-m", "buckler.cli", "watch", "--once", name])  # noqa: S603
    _children.add(child)
    try:
        code = child.wait()
    finally:
        _children.discard(child)
    log.info("%s ended with exit code %s", name, code)


def _end_children() -> None:
    for child in tuple(_children):
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
