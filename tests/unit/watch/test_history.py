import sqlite3
from contextlib import closing

import sqlalchemy as sql

from buckler import watch
from buckler.state import paths
from buckler.watch import history
from tests.databases import HISTORY_WITHOUT_ATTEMPTS, write_sqlite


def test_the_history_is_a_table_that_other_tools_can_read(job):
    job(lambda: watch.Finding(True, "fine"))
    watch.run_once("reevaluate")
    with closing(sqlite3.connect(".buckler/watch/history.db")) as database:
        rows = database.execute("SELECT job, outcome, message, attempt FROM buckler_watch_runs").fetchall()
    assert rows == [("reevaluate", "passed", "fine", 1)]


def test_a_history_without_the_column_attempt_is_migrated(here):
    paths.WATCH.mkdir(parents=True)
    write_sqlite(paths.WATCH / "history.db", HISTORY_WITHOUT_ATTEMPTS)
    known = watch.History()
    assert known.runs() == [watch.Run("reevaluate", 5.0, 2.0, "failed", "too low", attempt=1, number=1)]
    assert (known.counts(), known.attempts()) == ({("reevaluate", "failed"): 1}, {"reevaluate": 1})


def test_several_queries_use_one_connection(here):
    connections = []
    listened = (sql.pool.Pool, "connect", lambda *_: connections.append(1))
    sql.event.listen(*listened)
    try:
        with watch.History() as history:
            history.start("canary")
            assert history.attempts() == {"canary": 1}
            assert len(history.runs()) == 1
    finally:
        sql.event.remove(*listened)
    assert len(connections) == 1


def test_counters_include_deleted_runs(here, monkeypatch):
    monkeypatch.setattr(history, "KEPT_RUNS", 3)
    known = watch.History()
    for _ in range(6):
        known.finish(known.start("canary"), 0.1, "passed", "")
    assert len(known.runs("canary")) == 3
    assert known.counts() == {("canary", "passed"): 6}
    assert known.attempts() == {"canary": 6}
