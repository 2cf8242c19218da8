import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from buckler import watch
from buckler.errors import DatabaseError, ParamsError
from buckler.state import paths
from buckler.watch import locks, schedule
from buckler.watch import scheduler as scheduling
from tests.unit.watch import made
from tests.waiting import wait_for


def with_job(**changes) -> watch.WatchParams:
    cfg = made.watching()
    return replace(cfg, jobs={**cfg.jobs, "reevaluate": made.job(**changes)})


@pytest.fixture
def scheduler(here):
    """A function that builds a scheduler and stops the one before; the last is stopped after the test."""
    built = []

    def build(cfg):
        for before in built:
            if before.running:
                before.shutdown()
        built.append(watch.build_scheduler(cfg))
        return built[-1]

    yield build
    for each in built:
        if each.running:
            each.shutdown()


def test_an_error_names_an_invalid_cron_expression(here):
    with pytest.raises(ParamsError, match=r"reevaluate\.cron: expected a cron expression, got 'each night'"):
        watch.build_scheduler(with_job(cron="each night"))


def test_a_job_follows_its_cron_expression_and_never_runs_twice_at_once(scheduler):
    job = scheduler(made.watching()).get_job("reevaluate")
    assert (job.next_run_time.hour, job.next_run_time.minute) == (3, 17)
    assert job.coalesce
    assert job.max_instances == 1
    assert job.misfire_grace_time == 3600


def test_a_restart_keeps_the_due_time_unless_the_cron_expression_changed(scheduler):
    late = with_job(jitter_seconds=3600)
    due = scheduler(made.watching()).get_job("reevaluate").next_run_time + timedelta(minutes=30)
    scheduler(late).modify_job("reevaluate", next_run_time=due)
    assert scheduler(late).get_job("reevaluate").next_run_time == due
    assert scheduler(with_job(cron="18 3 * * *")).get_job("reevaluate").next_run_time < due


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=40)])
def test_at_the_start_no_due_time_of_a_wrong_clock_is_kept(scheduler, caplog, ahead):
    """As after a minute in which the clock was ahead: each job is due one period after that minute."""
    cfg = replace(made.watching(), jobs={**made.watching().jobs, "canary": made.job(cron="* * * * *")})
    stored = datetime.now(UTC) + ahead + timedelta(days=1)
    before = scheduler(cfg)
    before.pause()
    for name in watch.JOBS:
        before.modify_job(name, next_run_time=stored)
    before._process_jobs = lambda: None  # it has the wrong clock, too
    after, now = scheduler(cfg), datetime.now(UTC)
    assert after.get_job("canary").next_run_time <= now + timedelta(minutes=1)
    for name in set(watch.JOBS) - {"canary"}:
        due = after.get_job(name).next_run_time
        assert now < due <= now + timedelta(days=1, hours=1)
        assert (due.hour, due.minute) == (3, 17)
        assert f"{name} was due at" in caplog.text
    assert "the clock was ahead" in caplog.text


def test_while_the_watch_runs_no_due_time_of_a_wrong_clock_is_kept(scheduler, monkeypatch):
    monkeypatch.setattr(scheduling, "CHECK_SECONDS", 0.1)
    running = scheduler(made.watching())
    right = running.get_job("reevaluate").next_run_time
    store = running._jobstores["default"]
    job = store.lookup_job("reevaluate")
    job._modify(next_run_time=right + timedelta(days=40))
    store.update_job(job)  # as the scheduler itself did while the clock was wrong
    wait_for(lambda: running.get_job("reevaluate").next_run_time == right)


def test_a_locked_database_stops_the_jobs_only_while_it_is_locked(scheduler, monkeypatch, caplog):
    monkeypatch.setattr(scheduling, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(scheduling, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(schedule, "LOCK_SECONDS", 0.1)
    running = scheduler(made.watching())
    with closing(sqlite3.connect(paths.WATCH_SCHEDULE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        wait_for(lambda: "no job can start, trying again" in caplog.text)
        other.rollback()
    assert "database is locked; another process is writing to it" in caplog.text
    with pytest.MonkeyPatch.context() as patch:
        started = threading.Event()
        patch.setattr(schedule, "_run", lambda *_: started.set() or 0)
        running.run_now("drift")
        assert started.wait(30)


def test_a_watch_does_not_start_with_a_locked_schedule_and_says_why(here, monkeypatch):
    monkeypatch.setattr(schedule, "LOCK_SECONDS", 0.1)
    watch.build_scheduler(made.watching()).shutdown()
    with closing(sqlite3.connect(paths.WATCH_SCHEDULE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseError, match="another process is writing to it: try again when that has ended"):
            watch.build_scheduler(made.watching())


CHILD = """
import sys, time
from pathlib import Path
from buckler import watch
with Path("attempts").open("a") as file:
    file.write(f"{time.monotonic()} {sys.argv[-1]}\\n")
sys.exit(int(Path("code").read_text()))
"""


@pytest.fixture
def child(here, monkeypatch):
    """A function that runs a job whose process ends with the given exit code; it returns (time, attempt) of each."""
    start_process = subprocess.Popen
    monkeypatch.setattr(
        schedule.subprocess, "Popen", lambda command, **_: start_process([sys.executable, "-c", CHILD, *command[3:]])
    )

    def run(code):
        (here / "code").write_text(str(code))
        schedule.run_scheduled("reevaluate", {"retries": 2, "backoff": 0.2, "limit": 60})
        return [line.split() for line in (here / "attempts").read_text().splitlines()]

    return run


def test_an_error_is_retried_after_growing_pauses(child):
    attempts = child(2)
    assert [attempt for _, attempt in attempts] == ["1", "2", "3"]
    first, second, third = (float(moment) for moment, _ in attempts)
    assert second - first >= 0.2
    assert third - second >= 0.4


@pytest.mark.parametrize("code", [0, 1])
def test_a_pass_or_a_failure_is_not_retried(child, code):
    assert [attempt for _, attempt in child(code)] == ["1"]


def test_a_killed_process_counts_as_an_error(here, monkeypatch):
    start_process = subprocess.Popen
    killing_itself = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(schedule.subprocess, "Popen", lambda *_, **__: start_process(killing_itself))
    assert schedule._run("reevaluate", 1, 60) == 2


def test_a_process_that_exceeds_its_limit_is_killed(here, monkeypatch):
    start_process = subprocess.Popen
    monkeypatch.setattr(
        schedule.subprocess,
        "Popen",
        lambda *_, **__: start_process([sys.executable, "-c", "import time; time.sleep(60)"]),
    )
    monkeypatch.setattr(schedule, "GRACE_SECONDS", 0)
    began = time.monotonic()
    assert schedule._run("reevaluate", 1, 0.3) == 2
    assert time.monotonic() - began < 20


def test_a_killed_job_starts_again_and_a_running_one_continues(scheduler):
    built = scheduler(made.watching())
    built.pause()
    due = built.get_job("reevaluate").next_run_time
    with watch.History() as history:
        history.start("reevaluate")
        with locks.locked("reevaluate"):  # still running, after the watch that started it has ended
            schedule.resume_interrupted(built, history)
            assert built.get_job("reevaluate").next_run_time == due
        schedule.resume_interrupted(built, history)
        assert built.get_job("reevaluate").next_run_time <= datetime.now(UTC)
        assert built.get_job("canary").next_run_time > datetime.now(UTC)
        (run,) = history.runs()
    assert (run.outcome, run.message) == ("error", "was interrupted")


# --- the real watch


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_project(directory: Path, port: int) -> watch.WatchParams:
    cfg = made.watching(port=port)
    publish = {"experiment": "e", "model_name": "no-such-model"}
    (directory / "params.yaml").write_text(yaml.safe_dump({"watch": made.as_section(cfg), "publish": publish}))
    return cfg


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def miss(cfg: watch.WatchParams, name: str, late: timedelta) -> None:
    """Store a schedule in which the job ``name`` is overdue."""
    scheduler = watch.build_scheduler(cfg)
    scheduler._process_jobs = lambda: None  # its thread would run the job during the shutdown
    scheduler.modify_job(name, next_run_time=datetime.now(UTC) - late)
    scheduler.shutdown()


def start() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "buckler.cli", "watch"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def scraped(port: int, wanted: str, process: subprocess.Popen) -> str:
    text = ""
    for _ in range(240):
        assert process.poll() is None, process.communicate()[0].decode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            text = ""
        if wanted in text:
            break
        time.sleep(0.5)
    return text


@pytest.mark.slow
def test_the_watch_runs_a_missed_job_serves_metrics_and_stops_cleanly(here, monkeypatch):
    """The job became due while the watch was off; its run ends in an error, because there is no champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    port = free_port()
    miss(write_project(here, port), "reevaluate", timedelta(minutes=30))

    process = start()
    try:
        missed = 'buckler_watch_runs_total{job="reevaluate",outcome="error"} 1.0'
        text = scraped(port, missed, process)
        assert missed in text
        assert 'buckler_watch_period_seconds{job="reevaluate"}' in text
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0, output
    (run,) = watch.History().runs()
    assert "no-such-model has no champion" in run.message


@pytest.mark.slow
def test_a_new_watch_starts_the_job_that_was_killed_with_the_old_one(here, monkeypatch, listener):
    """The job waits for a service that accepts the connection and never answers, so it is running when killed."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    port = free_port()
    miss(write_project(here, port), "canary", timedelta(minutes=1))
    settings = yaml.safe_load((here / "params.yaml").read_text())
    settings["watch"]["service_url"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings["canary"] = {"records": 1, "min_right": 1.0}
    (here / "params.yaml").write_text(yaml.safe_dump(settings))

    process = start()
    running = 'buckler_watch_running{job="canary"} 1.0'
    assert running in scraped(port, running, process)
    process.kill()
    process.wait(timeout=30)
    process.stdout.close()
    listener.close()
    wait_for(lambda: not locks.is_running("canary"), 10)  # the job ends with the watch
    assert watch.History().unfinished("canary")

    process = start()
    try:
        again = 'buckler_watch_attempts_total{job="canary"} 2.0'
        assert again in scraped(port, again, process)
        wanted = 'buckler_watch_runs_total{job="canary",outcome="error"} 2.0'
        assert wanted in scraped(port, wanted, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    newest, oldest = watch.History().runs("canary")  # in the second run, the service no longer listens
    assert oldest.message == "was interrupted"
    assert "no answer from" in newest.message
