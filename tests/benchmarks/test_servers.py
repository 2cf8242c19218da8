"""Processes that are started, measured and stopped."""

import os
import subprocess
import sys
import time

from benchmarks import servers
from tests.waiting import wait_for

# A parent that ends at once on SIGTERM, and a child that ignores the signal.
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('child', flush=True); time.sleep(99)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {CHILD!r}]); time.sleep(99)"


def test_a_server_is_measured_with_its_children_and_nothing_is_left_of_it(tmp_path):
    log = tmp_path / "log"
    with servers.started([sys.executable, "-c", PARENT], env=os.environ, log=log) as process:
        wait_for(lambda: log.read_text() == "child\n")
        parent, child = servers.family(process.pid)
        assert parent == process.pid
        assert b"time.sleep" in servers.command_of(child)
        assert 1 < servers.resident_mib(child) < 1000
        assert 0 <= servers.cpu_seconds(child) < 60
    assert process.poll() is not None
    wait_for(lambda: servers.command_of(child) == b"")
    assert (servers.resident_mib(parent), servers.cpu_seconds(parent)) == (0, 0)


def test_the_settings_of_the_shell_do_not_reach_a_server(monkeypatch):
    monkeypatch.setenv("BUCKLER_RELEASE", "of the shell")
    monkeypatch.setenv("OTHER", "kept")
    found = servers.environment({"BUCKLER_WORKERS": "2"})
    assert "BUCKLER_RELEASE" not in found
    assert (found["BUCKLER_WORKERS"], found["OTHER"]) == ("2", "kept")


def test_a_checkout_imports_its_own_packages(tmp_path):
    for package in ("src/buckler", "services"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
    env = servers.environment({"PYTHONPATH": servers.import_path(tmp_path)})
    code = "import buckler, services; print(buckler.__file__, services.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd="/", env=env, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [f"{tmp_path}/src/buckler/__init__.py", f"{tmp_path}/services/__init__.py"]


def test_a_server_that_ends_at_sigterm_is_not_waited_for(tmp_path):
    process = servers.start([sys.executable, "-c", "import time; time.sleep(99)"], env=os.environ, log=tmp_path / "log")
    began = time.monotonic()
    servers.end(process)
    assert time.monotonic() - began < servers.STOP_SECONDS / 2
