"""A process that was started to work for another one ends with it."""

import os
import signal
import subprocess
import sys

import pytest

from buckler.state import parents

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
WORKER = """
import os, signal, time
from buckler.state import parents
{before}
parents.end_with_parent()
assert parents.VARIABLE not in os.environ
print("works", flush=True)
time.sleep(60)
"""
WITHOUT_PIDFD = "del os.pidfd_open; parents.POLL_SECONDS = 0.1"
IGNORING_SIGTERM = "signal.signal(signal.SIGTERM, signal.SIG_IGN); parents.GRACE_SECONDS = 0.2"


def worker(pid: int, before: str = "") -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", WORKER.format(before=before)],
        env={**os.environ, parents.VARIABLE: str(pid)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(
    ("before", "code"), [("", -signal.SIGTERM), (WITHOUT_PIDFD, -signal.SIGTERM), (IGNORING_SIGTERM, 143)]
)
def test_it_ends_when_the_other_is_killed_and_says_why(before: str, code: int):
    with subprocess.Popen(SLEEPER) as other, worker(other.pid, before) as child:
        assert child.stdout.readline() == b"works\n"
        other.kill()
        other.wait()
        said = child.communicate(timeout=30)[1].decode()
    assert child.returncode == code
    assert said == f"error: process {other.pid}, for which this one works, has ended; so does this one\n"


def test_it_ends_at_once_if_the_other_has_ended_before():
    with subprocess.Popen(SLEEPER) as other:
        other.kill()
    with worker(other.pid) as child:
        child.communicate(timeout=30)
    assert child.returncode == -signal.SIGTERM


@pytest.mark.parametrize("value", ["", "-1", "all"])
def test_without_a_process_id_nothing_is_watched(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(parents.VARIABLE, value)
    parents.end_with_parent()
    assert parents.VARIABLE not in os.environ
