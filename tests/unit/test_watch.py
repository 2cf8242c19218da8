import dataclasses
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from buckler import params, watch
from buckler.errors import BucklerError, DataError, ParamsError

CFG = watch.WatchParams(
    reevaluate_cron="17 3 * * *",
    jitter_seconds=0,
    misfire_grace_seconds=3600,
    attack="fgsm",
    epsilon_255=(1,),
    steps=1,
    images=0,
    seed=7,
    host="127.0.0.1",
    port=0,
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(here, monkeypatch):
    """Make ``reevaluate`` do what the test says."""

    def become(function):
        monkeypatch.setattr(sys.modules[__name__], "current_job", function, raising=False)
        monkeypatch.setitem(watch.JOBS, "reevaluate", f"{__name__}:current_job")

    return become


def metrics() -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(watch.Exporter())
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (li.rsplit(" ", 1) for li in lines if not li.startswith("#"))}


def raising(error: Exception):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "outcome", "message"),
    [
        (lambda: watch.Result(True, "fine"), "passed", "fine"),
        (lambda: watch.Result(False, "too low"), "failed", "too low"),
        (raising(DataError("no test.csv")), "error", "no test.csv"),
        (raising(KeyError("a fault of ours")), "error", "KeyError: 'a fault of ours'"),
    ],
)
def test_each_end_of_a_job_is_kept_in_the_history(job, function, outcome, message):
    job(function)
    run = watch.run_once("reevaluate")
    assert (run.job, run.outcome, run.message) == ("reevaluate", outcome, message)
    assert run.seconds >= 0
    assert watch.History().runs() == [run]


def test_the_exit_codes_are_those_of_the_contract():
    assert watch.EXIT_CODES == {"passed": 0, "failed": 1, "error": 2}


def test_an_unknown_job_is_named_beside_the_known_ones(here):
    with pytest.raises(BucklerError, match=r"'reevaluate'.*, got 'dance'"):
        watch.run_once("dance")


def test_a_job_does_not_overlap_with_itself(job):
    seen = []

    def nested():
        with pytest.raises(BucklerError, match="running already"):
            watch.run_once("reevaluate")
        seen.append(True)
        return watch.Result(True, "")

    job(nested)
    assert watch.run_once("reevaluate").outcome == "passed"
    assert seen == [True]
    assert len(watch.History().runs()) == 1


def test_a_run_that_was_killed_is_noted_as_interrupted_by_the_next(job):
    job(lambda: watch.Result(True, "fine"))
    watch.History().start("reevaluate")
    watch.run_once("reevaluate")
    newest, oldest = watch.History().runs()
    assert newest.outcome == "passed"
    assert (oldest.outcome, oldest.message) == ("error", "was interrupted")


def test_every_series_of_a_job_is_there_before_its_first_run(here):
    found = metrics()
    for outcome in watch.OUTCOMES:
        assert found[f'buckler_watch_runs_total{{job="reevaluate",outcome="{outcome}"}}'] == 0
    for name in ("last_success_timestamp_seconds", "last_run_timestamp_seconds", "duration_seconds"):
        assert found[f'buckler_watch_{name}{{job="reevaluate"}}'] == 0


def test_a_run_in_an_error_is_no_success(job):
    job(lambda: watch.Result(False, "too low"))
    watch.run_once("reevaluate")
    before = metrics()
    job(raising(DataError("no test.csv")))
    watch.run_once("reevaluate")
    after = metrics()
    success = 'buckler_watch_last_success_timestamp_seconds{job="reevaluate"}'
    last = 'buckler_watch_last_run_timestamp_seconds{job="reevaluate"}'
    assert abs(before[success] - time.time()) < 60
    assert after[success] == before[success]
    assert after[last] > before[last]
    assert after['buckler_watch_runs_total{job="reevaluate",outcome="failed"}'] == 1
    assert after['buckler_watch_runs_total{job="reevaluate",outcome="error"}'] == 1


def test_what_the_re_evaluation_found_outlasts_a_restart(here):
    rate = {"value": 0.4, "low": 0.3, "high": 0.5}
    watch.write_state(
        "reevaluate",
        {
            "model": {"name": "skin-lesion"},
            "passed": False,
            "floors": {"1": 0.3},
            "clean_accuracy": {**rate, "value": 0.8},
            "cells": [{"attack": "fgsm", "epsilon_255": 2, "robust_accuracy": rate}],
        },
    )
    found = metrics()
    assert found['buckler_gate_passed{model="skin-lesion"}'] == 0
    assert found["buckler_clean_accuracy_ratio"] == 0.8
    assert found['buckler_robust_accuracy_ratio{attack="fgsm",epsilon_255="2"}'] == 0.4
    assert found['buckler_robust_accuracy_low_ratio{attack="fgsm",epsilon_255="2"}'] == 0.3
    assert found['buckler_robust_accuracy_high_ratio{attack="fgsm",epsilon_255="2"}'] == 0.5
    assert found['buckler_robust_accuracy_floor_ratio{epsilon_255="1"}'] == 0.3
    assert {path.name for path in watch.STATE.iterdir()} == {"reevaluate.json", "history.db"}


def test_a_damaged_state_does_not_take_the_other_metrics_along(here):
    watch.STATE.mkdir(parents=True)
    (watch.STATE / "reevaluate.json").write_text("{")
    assert 'buckler_watch_duration_seconds{job="reevaluate"}' in metrics()


def test_a_cron_expression_that_cannot_be_read_is_named(here):
    with pytest.raises(ParamsError, match=r"watch\.reevaluate_cron: 'each night'"):
        watch.build_scheduler(dataclasses.replace(CFG, reevaluate_cron="each night"))


def test_a_job_is_due_when_its_cron_expression_says_and_never_twice(here):
    scheduler = watch.build_scheduler(CFG)
    (job,) = scheduler.get_jobs()
    scheduler.shutdown()
    assert (job.next_run_time.hour, job.next_run_time.minute) == (3, 17)
    assert job.coalesce
    assert job.max_instances == 1
    assert job.misfire_grace_time == 3600


def test_a_restart_keeps_what_is_overdue_and_another_schedule_makes_a_new_date(here):
    scheduler = watch.build_scheduler(CFG)
    overdue = datetime.now(UTC) + timedelta(days=300)
    scheduler.modify_job("reevaluate", next_run_time=overdue)
    scheduler.shutdown()
    scheduler = watch.build_scheduler(CFG)
    assert scheduler.get_job("reevaluate").next_run_time == overdue
    scheduler.shutdown()
    scheduler = watch.build_scheduler(dataclasses.replace(CFG, reevaluate_cron="18 3 * * *"))
    assert scheduler.get_job("reevaluate").next_run_time < overdue
    scheduler.shutdown()


def test_the_section_of_params_is_read():
    assert params.load("watch", watch.WatchParams).reevaluate_cron


PROJECT_PARAMS = """
watch:
  reevaluate_cron: "* * * * *"
  jitter_seconds: 0
  misfire_grace_seconds: 86400
  attack: fgsm
  epsilon_255: [1]
  steps: 1
  images: 0
  seed: 7
  host: 127.0.0.1
  port: {port}
publish: {{experiment: e, model_name: no-such-model}}
"""


def test_the_watch_runs_a_missed_job_serves_metrics_and_stops_cleanly(here, monkeypatch):
    """A run that was due while the watch was off is made up for; here it finds no champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (here / "params.yaml").write_text(textwrap.dedent(PROJECT_PARAMS.format(port=port)))
    scheduler = watch.build_scheduler(params.load("watch", watch.WatchParams))
    scheduler.pause()
    scheduler.modify_job("reevaluate", next_run_time=datetime.now(UTC) - timedelta(hours=2))
    scheduler.shutdown()

    process = subprocess.Popen(
        [sys.executable, "-m", "buckler.cli", "watch"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        missed = 'buckler_watch_runs_total{job="reevaluate",outcome="error"} 1.0'
        assert missed in scraped(f"http://127.0.0.1:{port}/metrics", missed, process)
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0, output
    assert "Traceback" not in output
    (run,) = watch.History().runs()
    assert "no-such-model has no champion" in run.message


def scraped(url: str, wanted: str, process: subprocess.Popen) -> str:
    text = ""
    for _ in range(240):
        assert process.poll() is None, process.communicate()[0].decode()
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            text = ""
        if wanted in text:
            break
        time.sleep(0.5)
    return text


def test_the_history_is_a_table_that_anybody_can_read(job):
    job(lambda: watch.Result(True, "fine"))
    watch.run_once("reevaluate")
    with sqlite3.connect(".buckler/watch/history.db") as database:
        rows = database.execute("SELECT job, outcome, message FROM runs").fetchall()
    database.close()
    assert rows == [("reevaluate", "passed", "fine")]


def test_a_state_is_replaced_at_once(here):
    for number in (1, 2):
        watch.write_state("reevaluate", {"number": number})
    assert json.loads((watch.STATE / "reevaluate.json").read_text()) == {"number": 2}
