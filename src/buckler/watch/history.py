"""The history of all runs and of what followed from them, in a SQLite file that any process may write to."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from buckler.state import paths

KEPT_RUNS = 20_000  # of a job that runs each minute, two weeks; counters go on beyond them

Outcome = Literal["passed", "failed", "error"]
OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "error")
EXIT_CODES: dict[Outcome, int] = {"passed": 0, "failed": 1, "error": 2}

COLUMNS = "job, started_at, seconds, outcome, message, attempt, id"
TABLES = (
    "CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, job TEXT NOT NULL, started_at REAL NOT NULL, "
    "seconds REAL, outcome TEXT, message TEXT NOT NULL DEFAULT '', attempt INTEGER NOT NULL DEFAULT 1)",
    "CREATE TABLE IF NOT EXISTS counters (kind TEXT NOT NULL, job TEXT NOT NULL, what TEXT NOT NULL, "
    "count INTEGER NOT NULL, PRIMARY KEY (kind, job, what))",
    "CREATE INDEX IF NOT EXISTS runs_of_job ON runs (job, id)",
)
COUNT = (
    "INSERT INTO counters VALUES (?, ?, ?, 1) ON CONFLICT (kind, job, what) DO UPDATE SET count = counters.count + 1"
)
RUN, ATTEMPT, ACTION = "run", "attempt", "action"


@dataclass(frozen=True, slots=True)
class Run:
    """A line of the history; ``seconds`` and ``outcome`` are None while it lasts."""

    job: str
    started_at: float
    seconds: float | None
    outcome: Outcome | None
    message: str
    attempt: int = 1
    number: int = 0


class History:
    """The runs of all jobs."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or paths.WATCH_HISTORY

    def start(self, job: str, attempt: int = 1) -> int:
        """Note that ``job`` begins and return the run's number; what it left unfinished is noted as an error.

        Only the holder of the job's lock may call this.
        """
        with self._connected() as database:
            _interrupt(database, job)
            row = database.execute(
                "INSERT INTO runs (job, started_at, attempt) VALUES (?, ?, ?)", (job, time.time(), attempt)
            )
            database.execute(COUNT, (ATTEMPT, job, ""))
            database.execute(
                "DELETE FROM runs WHERE job = ? AND id <= "
                "(SELECT id FROM runs WHERE job = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (job, job, KEPT_RUNS),
            )
            return int(row.lastrowid or 0)

    def finish(self, number: int, seconds: float, outcome: Outcome, message: str) -> None:
        """Note how run ``number`` ended."""
        with self._connected() as database:
            (job,) = database.execute(
                "UPDATE runs SET seconds = ?, outcome = ?, message = ? WHERE id = ? RETURNING job",
                (seconds, outcome, message, number),
            ).fetchone()
            database.execute(COUNT, (RUN, job, outcome))

    def interrupt(self, job: str) -> None:
        """Note an unfinished run as interrupted; only for the holder of the job's lock."""
        with self._connected() as database:
            _interrupt(database, job)

    def unfinished(self, job: str) -> bool:
        """Tell whether the last run of ``job`` has no end: it is running, or was killed."""
        return any(run.outcome is None for run in self.runs(job, limit=1))

    def runs(self, job: str | None = None, limit: int = 100) -> list[Run]:
        """Return the latest runs, newest first."""
        with self._connected() as database:
            rows = database.execute(
                f"SELECT {COLUMNS} FROM runs WHERE ? IS NULL OR job = ? ORDER BY id DESC LIMIT ?",  # noqa: S608
                (job, job, limit),
            )
            return [Run(*row) for row in rows]

    def counts(self) -> dict[tuple[str, str], int]:
        """Return (job, outcome) -> number of finished runs."""
        return self._counted(RUN)

    def attempts(self) -> dict[str, int]:
        """Return job -> number of runs that were started."""
        return {job: count for (job, _), count in self._counted(ATTEMPT).items()}

    def count_action(self, job: str, action: str) -> None:
        """Count what followed from a failed run."""
        with self._connected() as database:
            database.execute(COUNT, (ACTION, job, action))

    def actions(self) -> dict[tuple[str, str], int]:
        """Return (job, action) -> how often it was taken."""
        return self._counted(ACTION)

    def latest(self, job: str, *, completed: bool) -> Run | None:
        """Return the last finished run of ``job``; ``completed``: the last that did not end in an error."""
        condition = "outcome IN ('passed', 'failed')" if completed else "outcome IS NOT NULL"
        with self._connected() as database:
            row = database.execute(
                f"SELECT {COLUMNS} FROM runs WHERE job = ? AND {condition} ORDER BY id DESC LIMIT 1",  # noqa: S608
                (job,),
            ).fetchone()
            return Run(*row) if row else None

    def _counted(self, kind: str) -> dict[tuple[str, str], int]:
        with self._connected() as database:
            rows = database.execute("SELECT job, what, count FROM counters WHERE kind = ?", (kind,))
            return {(job, what): count for job, what, count in rows}

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            _prepare(database)
            yield database


def _interrupt(database: sqlite3.Connection, job: str) -> None:
    changed = database.execute(
        "UPDATE runs SET outcome = 'error', seconds = 0, message = 'was interrupted' WHERE job = ? AND outcome IS NULL",
        (job,),
    )
    for _ in range(changed.rowcount):
        database.execute(COUNT, (RUN, job, "error"))


def _prepare(database: sqlite3.Connection) -> None:
    """Make the tables; of a file from before there were attempts and counters, take over what it holds."""
    if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs_of_job'").fetchone():
        return
    known = {row[1] for row in database.execute("PRAGMA table_info(runs)")}
    if known and "attempt" not in known:
        database.execute("ALTER TABLE runs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1")
    for statement in TABLES:
        database.execute(statement)
    database.execute(
        "INSERT OR IGNORE INTO counters SELECT 'run', job, outcome, count(*) FROM runs "
        "WHERE outcome IS NOT NULL GROUP BY job, outcome"
    )
    database.execute("INSERT OR IGNORE INTO counters SELECT 'attempt', job, '', count(*) FROM runs GROUP BY job")
