import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buckler import watch
from buckler.errors import BucklerError, DataError
from buckler.state import paths
from buckler.watch import locks, logs
from tests.unit.watch import made


def raising(error: Exception):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "outcome", "message"),
    [
        (lambda: watch.Finding(True, "fine"), "passed", "fine"),
        (lambda: watch.Finding(False, "too low"), "failed", "too low"),
        (raising(DataError("no test.csv")), "error", "no test.csv"),
        (raising(KeyError("a fault of ours")), "error", "KeyError: 'a fault of ours'"),
    ],
)
def test_each_outcome_is_recorded_in_the_history(job, function, outcome, message):
    job(function)
    run = watch.run_once("reevaluate", attempt=2)
    assert (run.job, run.outcome, run.message, run.attempt) == ("reevaluate", outcome, message, 2)
    assert run.seconds >= 0
    assert watch.History().runs() == [run]


def test_the_exit_codes_are_those_of_the_contract():
    assert watch.EXIT_CODES == {"passed": 0, "failed": 1, "error": 2}


def test_an_error_names_an_unknown_job_and_the_known_ones(here):
    with pytest.raises(BucklerError, match=r"'canary', .*'reevaluate'\], got 'dance'"):
        watch.run_once("dance")


def test_a_job_does_not_overlap_with_itself(job):
    seen = []

    def nested():
        assert locks.is_running("reevaluate")
        with pytest.raises(BucklerError, match="already running"):
            watch.run_once("reevaluate")
        seen.append(True)
        return watch.Finding(True, "")

    job(nested)
    assert watch.run_once("reevaluate").outcome == "passed"
    assert seen == [True]
    assert len(watch.History().runs()) == 1
    assert not locks.is_running("reevaluate")


def test_the_next_run_records_a_killed_one_as_interrupted(job):
    job(lambda: watch.Finding(True, "fine"))
    watch.History().start("reevaluate")
    assert watch.History().unfinished("reevaluate")
    watch.run_once("reevaluate")
    newest, oldest = watch.History().runs()
    assert newest.outcome == "passed"
    assert (oldest.outcome, oldest.message) == ("error", "was interrupted")
    assert watch.History().counts() == {("reevaluate", "passed"): 1, ("reevaluate", "error"): 1}


def test_the_log_has_the_output_of_the_run_and_of_its_child_processes(job, capfd):
    def speaking():
        os.write(1, b"in Python\n")  # print would write to pytest's own stream
        subprocess.run(["echo", "in another process"], check=True)
        os.write(2, b"as C++ does\n")
        return watch.Finding(True, "")

    job(speaking)
    run = watch.run_once("reevaluate")
    for words in ("in Python", "in another process", "as C++ does"):
        assert words in logs.read(run.number)
    assert "as C++ does" in capfd.readouterr().err  # the output also goes to stderr


def test_a_log_is_bounded_and_old_ones_are_deleted(job, monkeypatch):
    monkeypatch.setattr(logs, "LONGEST_LOG", 1000)
    monkeypatch.setattr(logs, "KEPT_LOGS", 3)
    job(lambda: (os.write(1, b"x" * 5000), watch.Finding(True, ""))[1])
    numbers = [watch.run_once("reevaluate").number for _ in range(5)]
    assert logs.read(numbers[-1]) == "x" * 1000 + "\n[the rest is left out]\n"
    assert len(list(paths.WATCH_LOGS.iterdir())) == 3
    with pytest.raises(BucklerError, match="no log of run 1"):
        logs.read(numbers[0])


SLOW = """
import sys, time
from buckler import watch
from buckler.watch import jobs
from tests.unit.watch import made

def slow():
    print("begun", flush=True)
    time.sleep(60)

jobs.LOADERS["reevaluate"] = lambda: slow
cfg = made.watching(jobs={name: made.job(limit_seconds=int(sys.argv[1])) for name in watch.JOBS})
watch.run_once("reevaluate", cfg=cfg)
"""


def begin_slow(directory: Path, limit: int) -> subprocess.Popen:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(limit)], cwd=directory, env=environment, stderr=subprocess.PIPE
    )


def test_a_run_that_exceeds_its_limit_ends_itself_without_a_watch(here):
    with begin_slow(here, limit=1) as process:
        assert process.wait(timeout=30) == 2
    (run,) = watch.History().runs()
    assert (run.outcome, run.message) == ("error", "took longer than 1 s and was ended")
    assert 1 <= run.seconds < 10
    assert not locks.is_running("reevaluate")


def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(here, job):
    job(lambda: watch.Finding(True, "fine"))
    with begin_slow(here, limit=600) as process:
        assert process.stderr.readline() == b"begun\n"
        with pytest.raises(BucklerError, match="already running"):
            watch.run_once("reevaluate")
        process.kill()
        process.wait(timeout=30)
    deadline = time.monotonic() + 10
    while locks.is_running("reevaluate") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert watch.run_once("reevaluate").outcome == "passed"
    assert [run.outcome for run in watch.History().runs()] == ["passed", "error"]
    assert made.metrics()['buckler_watch_attempts_total{job="reevaluate"}'] == 2
