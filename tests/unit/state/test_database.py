"""Migrations of the three stores: new databases, databases without Alembic, several processes at once."""

import multiprocessing
import pickle
import sqlite3
import struct
import time
from contextlib import closing

import psycopg
import pytest
import sqlalchemy as sql
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

from buckler.errors import DatabaseError
from buckler.serving import traffic
from buckler.state import database
from buckler.state.database import Database
from buckler.watch import history, schedule
from buckler.watch.history import History, Run
from tests.databases import HISTORY_BEFORE_ALEMBIC, PASSWORD, TRAFFIC_BEFORE_ALEMBIC, postgres, write_sqlite

pytestmark = pytest.mark.slow

STORES = ("traffic", "history", "schedule")
TABLES = {
    "traffic": {"buckler_traffic_2"},
    "history": {"buckler_watch_runs", "buckler_watch_counters"},
    "schedule": {"buckler_watch_jobs"},
}


@pytest.fixture(scope="module")
def server():
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/below/100%/store.db"
    server = request.getfixturevalue("server")
    with closing(psycopg.connect(server.url, autocommit=True)) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return server.url


def opened(url: str, store: database.Store, **options: bool) -> Database:
    return Database(url, store, named_by="BUCKLER_TEST_URL", **options)


def tables(url: str) -> set[str]:
    with opened(url, "traffic").reading() as connection:
        return set(sql.inspect(connection).get_table_names())


@pytest.mark.parametrize("store", STORES)
def test_the_last_migration_by_name_is_the_only_head(store):
    config = Config()
    config.set_main_option("path_separator", "newline")
    config.set_main_option("script_location", str(database.MIGRATIONS))
    config.set_main_option("version_locations", str(database.MIGRATIONS / store))
    assert ScriptDirectory.from_config(config).get_heads() == [database.head(store)]


def test_stores_share_a_database_and_a_second_upgrade_changes_nothing(url):
    for _ in range(2):
        for store in STORES:
            with opened(url, store) as each:
                each.upgrade()
    expected = set.union(*TABLES.values()) | {database.version_table(store) for store in STORES}
    assert tables(url) == expected


@pytest.mark.parametrize("store", STORES)
def test_migrations_create_the_tables_that_the_code_uses(url, store):
    job_store = SQLAlchemyJobStore(url="sqlite://", tablename=schedule.TABLE)
    used = {"traffic": traffic._METADATA, "history": history._METADATA, "schedule": job_store.jobs_t.metadata}
    with opened(url, store).writing() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": lambda name, kind, _: owned(name, kind)})

        def owned(name: str | None, kind: str) -> bool:
            return kind != "table" or name in TABLES[store]

        assert compare_metadata(context, used[store]) == []


def test_rows_that_identify_pictures_are_deleted_from_the_file(tmp_path):
    url = write_sqlite(tmp_path / "traffic.db", TRAFFIC_BEFORE_ALEMBIC)
    exact = struct.pack("<2f", 1.0, 2.0)  # the sketch of its row
    assert exact in (tmp_path / "traffic.db").read_bytes()
    with traffic.Traffic(url) as stored:
        assert stored.window(since=0, limit=9) == []
    assert "buckler_traffic_1" not in tables(url)
    left = b"".join(path.read_bytes() for path in tmp_path.glob("traffic.db*"))
    assert exact not in left


def test_a_history_without_alembic_is_migrated_with_numbers_and_counters(tmp_path):
    url = write_sqlite(tmp_path / "history.db", HISTORY_BEFORE_ALEMBIC)
    known = History(url)
    assert known.runs() == [
        Run("drift", 9.0, None, None, "", attempt=1, number=42),
        Run("canary", 5.0, 2.0, "failed", "too low", attempt=2, number=41),
    ]
    assert known.counts() == {("canary", "failed"): 30}
    assert known.attempts() == {"canary": 31, "drift": 1}
    assert known.actions() == {("canary", "alert"): 3}
    assert known.start("drift") == 43
    assert known.counts() == {("canary", "failed"): 30, ("drift", "error"): 1}
    assert {"runs", "counters"} & tables(url) == set()


def test_another_programs_table_of_runs_is_not_changed(tmp_path):
    url = write_sqlite(
        tmp_path / "mlflow.db", "CREATE TABLE runs (run_uuid TEXT, status TEXT); INSERT INTO runs VALUES ('a', 'b')"
    )
    assert History(url).runs() == []
    with opened(url, "history").reading() as connection:
        assert connection.execute(sql.text("SELECT * FROM runs")).all() == [("a", "b")]


def test_a_failed_upgrade_leaves_the_old_tables(tmp_path):
    url = write_sqlite(
        tmp_path / "history.db", f"{HISTORY_BEFORE_ALEMBIC}; CREATE TABLE buckler_watch_counters (taken TEXT)"
    )
    with pytest.raises(DatabaseError, match="buckler_watch_counters"):
        History(url).runs()
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names == {"runs", "counters", "buckler_watch_counters"}


def test_a_schedule_without_alembic_is_migrated_with_its_due_times(tmp_path):
    url = f"sqlite:///{tmp_path}/jobs.db"
    old = SQLAlchemyJobStore(url=url)
    old.jobs_t.create(old.engine)
    row = {"id": "canary", "next_run_time": 1.9e9, "job_state": pickle.dumps({"version": 1})}
    with old.engine.begin() as connection:
        connection.execute(old.jobs_t.insert(), [row])
    old.engine.dispose()
    with opened(url, "schedule") as new, new.reading() as connection:
        assert connection.execute(sql.text(f"SELECT * FROM {schedule.TABLE}")).mappings().all() == [row]
    assert "apscheduler_jobs" not in tables(url)


def upgrade(url: str, store: database.Store, start) -> None:
    start.wait()
    with opened(url, store, wal=store == "traffic") as each:
        each.upgrade()


def test_processes_that_start_at_the_same_time_upgrade_once(url, tmp_path):
    if url.startswith("sqlite"):
        url = write_sqlite(tmp_path / "history.db", HISTORY_BEFORE_ALEMBIC)
    context = multiprocessing.get_context("forkserver")  # six processes import this module once
    context.set_forkserver_preload([upgrade.__module__])
    start = context.Barrier(6)
    workers = [context.Process(target=upgrade, args=(url, store, start)) for store in STORES for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert set.union(*TABLES.values()) <= tables(url)
    if url.startswith("sqlite"):
        assert len(History(url).runs()) == 2


def test_a_database_that_another_process_holds_is_not_waited_for_without_end(url):
    opened(url, "history").upgrade()
    with opened(url, "history").writing() as other:
        table = sql.table("buckler_watch_counters", sql.column("kind"))
        if other.dialect.name == "postgresql":
            other.exec_driver_sql("LOCK TABLE buckler_watch_counters")
        began = time.monotonic()
        with (
            pytest.raises(DatabaseError, match="another process is writing to it: try again") as caught,
            opened(url, "history", lock_seconds=0.5).writing() as waiting,
        ):
            waiting.execute(sql.delete(table))
        assert time.monotonic() - began < 10
        assert caught.value.passing


def test_a_database_of_a_newer_version_is_rejected(url):
    with opened(url, "traffic") as current, current.writing() as connection:
        connection.execute(sql.text("UPDATE buckler_traffic_version SET version_num = 'r9999_later'"))
    with pytest.raises(DatabaseError, match="r9999_later, this version of buckler knows up to r0002") as caught:
        opened(url, "traffic").upgrade()
    assert not caught.value.passing
    assert PASSWORD not in str(caught.value)


def test_a_current_database_is_readable_without_write_access(tmp_path):
    path = tmp_path / "history.db"
    History(f"sqlite:///{path}").start("canary")
    assert [run.job for run in History(f"sqlite:///file:{path}?mode=ro&uri=true").runs()] == ["canary"]


@pytest.mark.slow
def test_the_history_counts_every_run_on_a_server(url):
    with History(url) as known:
        for outcome in ("passed", "failed", "passed"):
            known.finish(known.start("canary"), 0.5, outcome, "text")
        known.start("drift")
        known.count_action("canary", "alert")
        assert known.counts() == {("canary", "passed"): 2, ("canary", "failed"): 1}
        assert known.attempts() == {"canary": 3, "drift": 1}
        assert known.unfinished("drift")
        assert [run.outcome for run in known.runs("canary")] == ["passed", "failed", "passed"]
        latest = known.latest("canary", completed=True)
        assert latest is not None
        assert (latest.outcome, latest.started_at) == ("passed", pytest.approx(time.time(), abs=60))
