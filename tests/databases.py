"""Databases for tests: a temporary PostgreSQL cluster on loopback, and SQLite files of earlier versions."""

import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import free_port
from tests.absent import absent

USER, PASSWORD = "buckler", "s3cret-of-the-test"
# Tables of the last version before Alembic, with rows.
TRAFFIC_BEFORE_ALEMBIC = """CREATE TABLE buckler_traffic_1 (
    id INTEGER NOT NULL, moment DOUBLE NOT NULL, digest VARCHAR(80) NOT NULL,
    width INTEGER, height INTEGER, size_bytes INTEGER, brightness DOUBLE NOT NULL, contrast DOUBLE NOT NULL,
    red DOUBLE NOT NULL, green DOUBLE NOT NULL, blue DOUBLE NOT NULL, saturation DOUBLE NOT NULL,
    sharpness DOUBLE NOT NULL, label TEXT NOT NULL, decision VARCHAR(16) NOT NULL, score DOUBLE NOT NULL,
    probabilities TEXT NOT NULL, sketch BLOB NOT NULL, PRIMARY KEY (id));
CREATE INDEX ix_buckler_traffic_1_moment ON buckler_traffic_1 (moment);
INSERT INTO buckler_traffic_1 VALUES (7, 5.0, 'sha256:1', 640, 480, NULL, 0.5, 0.25, 0.1, 0.2, 0.3, 0.4, 12.5,
    'benign', 'accept', -1.5, '{"benign": 1.0}', X'0000803F00000040')"""
HISTORY_BEFORE_ALEMBIC = """CREATE TABLE runs (id INTEGER PRIMARY KEY, job TEXT NOT NULL, started_at REAL NOT NULL,
    seconds REAL, outcome TEXT, message TEXT NOT NULL DEFAULT '', attempt INTEGER NOT NULL DEFAULT 1);
CREATE TABLE counters (kind TEXT NOT NULL, job TEXT NOT NULL, what TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (kind, job, what));
CREATE INDEX runs_of_job ON runs (job, id);
INSERT INTO runs VALUES (41, 'canary', 5.0, 2.0, 'failed', 'too low', 2), (42, 'drift', 9.0, NULL, NULL, '', 1);
INSERT INTO counters VALUES ('run', 'canary', 'failed', 30), ('attempt', 'canary', '', 31),
    ('attempt', 'drift', '', 1), ('action', 'canary', 'alert', 3)"""
# Runs of an earlier version, which counted no attempts.
HISTORY_WITHOUT_ATTEMPTS = """CREATE TABLE runs (id INTEGER PRIMARY KEY, job TEXT NOT NULL, started_at REAL NOT NULL,
    seconds REAL, outcome TEXT, message TEXT NOT NULL DEFAULT '');
INSERT INTO runs VALUES (1, 'reevaluate', 5.0, 2.0, 'failed', 'too low')"""


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL cluster that can be stopped and started again at the same address."""

    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.directory} -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", str(self.directory / "log"), "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def create(self) -> None:
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        self._run("initdb", "-D", self._data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _run(self, program: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root; Debian's package adds the user postgres.
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        done = subprocess.run(
            [binary(program), *arguments], cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **user
        )
        assert done.returncode == 0, done.stdout.decode()


def binary(program: str) -> str:
    """Return the path of a PostgreSQL program; without it, fail in CI and skip elsewhere."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))  # not on the path
    found = str(debian[-1]) if debian else shutil.which(program)
    if found is None:
        absent(f"{program} is not installed; on Debian: apt install postgresql")
    return found


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a cluster and remove it. Its directory is not pytest's, which the user postgres cannot enter."""
    with tempfile.TemporaryDirectory(prefix="buckler-postgres-", ignore_cleanup_errors=True) as directory:
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        server = Postgres(Path(directory), free_port())
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def write_sqlite(path: Path, statements: str) -> str:
    """Run ``statements`` on a new SQLite file and return its URL."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
    return f"sqlite:///{path}"
