import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from buckler import watch
from buckler.errors import ParamsError
from buckler.watch import locks, schedule
from tests.unit.watch import made


def with_job(**changes) -> watch.WatchParams:
    cfg = made.watching()
    return replace(cfg, jobs={**cfg.jobs, "reevaluate": made.job(**changes)})


@pytest.fixture
def scheduler(here):
    """Build schedulers that are stopped at the end."""
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


def test_a_cron_expression_that_cannot_be_read_is_named(here):
    with pytest.raises(ParamsError, match=r"watch\.jobs\.reevaluate\.cron: 'each night'"):
        watch.build_scheduler(with_job(cron="each night"))


def test_a_job_is_due_when_its_cron_expression_says_and_never_twice(scheduler):
    job = scheduler(made.watching()).get_job("reevaluate")
    assert (job.next_run_time.hour, job.next_run_time.minute) == (3, 17)
    assert job.coalesce
    assert job.max_instances == 1
    assert job.misfire_grace_time == 3600


def test_a_restart_keeps_what_is_overdue_and_another_schedule_makes_a_new_date(scheduler):
    overdue = datetime.now(UTC) + timedelta(days=300)
    scheduler(made.watching()).modify_job("reevaluate", next_run_time=overdue)
    assert scheduler(made.watching()).get_job("reevaluate").next_run_time == overdue
    assert scheduler(with_job(cron="18 3 * * *")).get_job("reevaluate").next_run_time < overdue


@pytest.mark.parametrize(
    ("cron", "seconds"),
    [("* * * * *", 60), ("41 */6 * * *", 6 * 3600), ("0 3 * * mon-fri", 3 * 86400), ("0 3 * * sun", 7 * 86400)],
)
def test_the_longest_pause_between_two_due_runs_is_known(cron, seconds, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    assert schedule.period("job", made.job(cron=cron, jitter_seconds=30)) == seconds + 30


CHILD = """
import sys, time
from pathlib import Path
from buckler import watch
with Path("tried").open("a") as file:
    file.write(f"{time.monotonic()} {sys.argv[-1]}\\n")
sys.exit(int(Path("code").read_text()))
"""


@pytest.fixture
def child(here, monkeypatch):
    """Let a scheduled run be a process that notes its attempt and ends with the code in the file ``code``."""
    begin = subprocess.Popen
    monkeypatch.setattr(
        schedule.subprocess, "Popen", lambda command: begin([sys.executable, "-c", CHILD, *command[3:]])
    )

    def run(code, **trying):
        (here / "code").write_text(str(code))
        schedule.run_scheduled("reevaluate", {"retries": 2, "backoff": 0.2, "limit": 60, **trying})
        return [line.split() for line in (here / "tried").read_text().splitlines()]

    return run


def test_an_error_is_tried_again_after_pauses_that_grow(child):
    tried = child(2)
    assert [attempt for _, attempt in tried] == ["1", "2", "3"]
    first, second, third = (float(moment) for moment, _ in tried)
    assert second - first >= 0.2
    assert third - second >= 0.4


@pytest.mark.parametrize("code", [0, 1])
def test_a_judgement_is_not_tried_again(child, code):
    assert [attempt for _, attempt in child(code)] == ["1"]


def test_a_child_that_was_killed_ended_in_an_error(here, monkeypatch):
    begin = subprocess.Popen
    killing = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(schedule.subprocess, "Popen", lambda _: begin(killing))
    assert schedule._run("reevaluate", 1, 60) == 2


def test_a_child_that_does_not_end_itself_is_killed(here, monkeypatch):
    begin = subprocess.Popen
    monkeypatch.setattr(
        schedule.subprocess, "Popen", lambda _: begin([sys.executable, "-c", "import time; time.sleep(60)"])
    )
    monkeypatch.setattr(schedule, "GRACE_SECONDS", 0)
    began = time.monotonic()
    assert schedule._run("reevaluate", 1, 0.3) == 2
    assert time.monotonic() - began < 20


def test_what_was_killed_in_the_middle_begins_again_and_what_still_runs_is_left_alone(scheduler):
    built = scheduler(made.watching())
    built.pause()
    due = built.get_job("reevaluate").next_run_time
    watch.History().start("reevaluate")
    with locks.locked("reevaluate"):  # it outlived the watch that started it
        schedule.make_up(built)
        assert built.get_job("reevaluate").next_run_time == due
    schedule.make_up(built)
    assert built.get_job("reevaluate").next_run_time <= datetime.now(UTC)
    assert built.get_job("canary").next_run_time > datetime.now(UTC)
    (run,) = watch.History().runs()
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
    """Leave a schedule behind in which a job was due a while ago."""
    scheduler = watch.build_scheduler(cfg)
    scheduler._process_jobs = lambda: None  # its thread looks once more while it is being shut down
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
    """A run that was due while the watch was off is made up for; here it finds no champion."""
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
def test_a_watch_that_was_killed_in_the_middle_of_a_job_catches_up(here, monkeypatch, listener):
    """The job waits for a service that takes its connection and never answers: it is in the middle when killed."""
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
    # The job outlives the watch, and its lock says so.
    assert locks.is_running("canary")
    assert watch.History().unfinished("canary")
    (child,) = _jobs_of(here)
    os.kill(child, signal.SIGKILL)
    process.stdout.close()
    listener.close()
    deadline = time.monotonic() + 10
    while locks.is_running("canary"):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    process = start()
    try:
        again = 'buckler_watch_attempts_total{job="canary"} 2.0'
        assert again in scraped(port, again, process)
        wanted = 'buckler_watch_runs_total{job="canary",outcome="error"} 2.0'
        assert wanted in scraped(port, wanted, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    newest, oldest = watch.History().runs("canary")  # the second found nobody listening
    assert oldest.message == "was interrupted"
    assert "no answer from" in newest.message


def _jobs_of(directory: Path) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        try:
            command, place = (path / "cmdline").read_bytes(), (path / "cwd").readlink()
        except OSError:
            continue
        if b"--once\0canary" in command and place == directory:
            found.append(int(path.name))
    return found
