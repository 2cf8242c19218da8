"""History of all runs and of the policy's actions, in a database that several processes may write to."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from buckler.state import paths
from buckler.state.database import Database
from buckler.watch.settings import WatchSettings

URL_ENV = "BUCKLER_WATCH_DATABASE_URL"  # of the history and the schedule
KEPT_RUNS = 20_000  # of each job: two weeks of one run a minute; the counters include deleted runs

Outcome = Literal["passed", "failed", "error"]
OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "error")
EXIT_CODES: dict[Outcome, int] = {"passed": 0, "failed": 1, "error": 2}

_METADATA = sql.MetaData()
# `buckler.state` creates and upgrades these; a change here needs a migration there.
_RUNS = sql.Table(
    "buckler_watch_runs",
    _METADATA,
    sql.Column("id", sql.BigInteger().with_variant(sql.Integer(), "sqlite"), primary_key=True, autoincrement=True),
    sql.Column("job", sql.Text, nullable=False),
    sql.Column("started_at", sql.Double, nullable=False),
    sql.Column("seconds", sql.Double),
    sql.Column("outcome", sql.Text),
    sql.Column("message", sql.Text, nullable=False, server_default=""),
    sql.Column("attempt", sql.Integer, nullable=False, server_default="1"),
    sql.Index("ix_buckler_watch_runs_job_id", "job", "id"),
)
_COUNTERS = sql.Table(
    "buckler_watch_counters",
    _METADATA,
    *(sql.Column(name, sql.Text, primary_key=True) for name in ("kind", "job", "what")),
    sql.Column("count", sql.BigInteger, nullable=False),
)
RUN, ATTEMPT, ACTION = "run", "attempt", "action"


@dataclass(frozen=True, slots=True)
class Run:
    """An entry of the history; ``seconds`` and ``outcome`` are None until the run ends."""

    job: str
    started_at: float
    seconds: float | None
    outcome: Outcome | None
    message: str
    attempt: int = 1
    number: int = 0


def database_url(default: Path) -> str:
    """Return ``BUCKLER_WATCH_DATABASE_URL``, else the URL of the SQLite file ``default``."""
    return WatchSettings.from_env().watch_database_url or f"sqlite:///{default}"


class History:
    """The runs of all jobs; threads may share it, and closing it closes its connections.

    Every method raises `DatabaseError` if the database cannot be used.
    """

    def __init__(self, url: str | None = None) -> None:
        # Without WAL: the console may have the directory read-only.
        self._database = Database(url or database_url(paths.WATCH_HISTORY), "history", named_by=URL_ENV, pooled=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def start(self, job: str, attempt: int = 1) -> int:
        """Record the start of a run of ``job`` and return its number; record unfinished runs of ``job`` as errors.

        The caller must hold the job's lock.
        """
        oldest = sql.select(_RUNS.c.id).where(_RUNS.c.job == job).order_by(_RUNS.c.id.desc()).offset(KEPT_RUNS).limit(1)
        with self._database.writing() as connection:
            _interrupt(connection, job)
            new = sql.insert(_RUNS).values(job=job, started_at=time.time(), attempt=attempt).returning(_RUNS.c.id)
            number = int(connection.execute(new).scalar_one())
            _count(connection, ATTEMPT, job, "")
            old = (_RUNS.c.job == job) & (_RUNS.c.id <= oldest.scalar_subquery())
            connection.execute(sql.delete(_RUNS).where(old))
            return number

    def finish(self, number: int, seconds: float, outcome: Outcome, message: str) -> None:
        """Record the outcome of run ``number``."""
        ended = sql.update(_RUNS).where(_RUNS.c.id == number).returning(_RUNS.c.job)
        with self._database.writing() as connection:
            job = connection.execute(ended.values(seconds=seconds, outcome=outcome, message=message)).scalar_one()
            _count(connection, RUN, job, outcome)

    def interrupt(self, job: str) -> None:
        """Record unfinished runs of ``job`` as errors; the caller must hold the job's lock."""
        with self._database.writing() as connection:
            _interrupt(connection, job)

    def unfinished(self, job: str) -> bool:
        """Return whether the last run of ``job`` has not ended: it is running or was killed."""
        return any(run.outcome is None for run in self.runs(job, limit=1))

    def runs(self, job: str | None = None, limit: int = 100) -> list[Run]:
        """Return the latest runs of ``job``, or of all jobs, newest first."""
        return self._latest(_RUNS.c.job == job if job is not None else sql.true(), limit)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return (job, outcome) -> number of finished runs."""
        return self._counted(RUN)

    def attempts(self) -> dict[str, int]:
        """Return job -> number of runs that were started."""
        return {job: count for (job, _), count in self._counted(ATTEMPT).items()}

    def count_action(self, job: str, action: str) -> None:
        """Count an action taken after a failed run."""
        with self._database.writing() as connection:
            _count(connection, ACTION, job, action)

    def actions(self) -> dict[tuple[str, str], int]:
        """Return (job, action) -> number of times the action was taken."""
        return self._counted(ACTION)

    def latest(self, job: str, *, completed: bool) -> Run | None:
        """Return the last finished run of ``job``; with ``completed``, the last one that did not end in an error."""
        ended = _RUNS.c.outcome.in_(("passed", "failed")) if completed else _RUNS.c.outcome.is_not(None)
        return next(iter(self._latest((_RUNS.c.job == job) & ended, 1)), None)

    def _latest(self, which: sql.ColumnElement[bool], limit: int) -> list[Run]:
        columns = _RUNS.c["job", "started_at", "seconds", "outcome", "message", "attempt", "id"]
        with self._database.reading() as connection:
            rows = connection.execute(sql.select(*columns).where(which).order_by(_RUNS.c.id.desc()).limit(limit))
            return [Run(*row) for row in rows]

    def _counted(self, kind: str) -> dict[tuple[str, str], int]:
        columns = _COUNTERS.c["job", "what", "count"]
        with self._database.reading() as connection:
            rows = connection.execute(sql.select(*columns).where(_COUNTERS.c.kind == kind))
            return {(job, what): count for job, what, count in rows}


def _interrupt(connection: sql.Connection, job: str) -> None:
    unfinished = sql.update(_RUNS).where(_RUNS.c.job == job, _RUNS.c.outcome.is_(None))
    changed = connection.execute(unfinished.values(seconds=0, outcome="error", message="was interrupted"))
    for _ in range(changed.rowcount):
        _count(connection, RUN, job, "error")


def _count(connection: sql.Connection, kind: str, job: str, what: str) -> None:
    # Both dialects have the same syntax, but SQLAlchemy has no common construct for it.
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    new = insert(_COUNTERS).values(kind=kind, job=job, what=what, count=1)
    more = {"count": _COUNTERS.c.count + 1}
    connection.execute(new.on_conflict_do_update(index_elements=["kind", "job", "what"], set_=more))
