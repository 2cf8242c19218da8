"""No MLflow server makes a call wait without end, and the error is one line."""

import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from buckler.errors import RegistryError
from buckler.serving import bounded_client
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import Registry, connect
from tests import blackholes, mlflow_stores
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def one_second(monkeypatch, tmp_path):
    """Calls end after a second, and one answer takes at most another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bounded_client, "CALL_SECONDS", 1.0)
    for name in bounded_client.DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(bounded_client.TIMEOUT_ENV, "0")
    with mlflow_stores.opened_anew():
        connect()  # loads MLflow, which takes seconds
        monkeypatch.delenv(bounded_client.TIMEOUT_ENV)
        monkeypatch.setitem(bounded_client.DEFAULTS, bounded_client.TIMEOUT_ENV, "1")
        yield


def waiting() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "mlflow"]


# urllib3: a socket of a thread that was made to end is closed when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("server", [blackholes.swallowing, blackholes.silent, blackholes.trickling])
def test_a_server_that_does_not_answer_is_one_line_within_the_limit(server, monkeypatch):
    with server() as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        began = time.monotonic()
        with pytest.raises(RegistryError, match=r"looking for the champion of lesions: no answer within 2 s") as caught:
            Registry("lesions", keys=None, id="local").by_alias(CHAMPION)
        assert time.monotonic() - began < 10
        assert "\n" not in str(caught.value)
        wait_for(lambda: not waiting())  # also of a server that sends a byte now and then
    gc.collect()


def test_an_answer_or_an_error_of_a_call_is_passed_on():
    assert bounded_client.within(30, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        bounded_client.within(30, lambda: 1 / 0)


def test_the_limits_of_the_environment_take_precedence(monkeypatch):
    monkeypatch.setenv(bounded_client.TIMEOUT_ENV, "100")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    connect()
    assert os.environ[bounded_client.TIMEOUT_ENV] == "100"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert os.environ["MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER"] == "false"
    assert bounded_client._call_seconds() == 101


def test_storing_files_takes_longer_and_changes_nothing_for_other_calls(monkeypatch):
    class Client:
        def log_artifacts(self, number):
            return number, os.environ[bounded_client.TIMEOUT_ENV]

        def get_run(self):
            time.sleep(5)

    bounded_client.set_defaults()
    client = bounded_client.BoundedClient(Client())
    assert client.log_artifacts(3) == (3, "300")
    assert os.environ[bounded_client.TIMEOUT_ENV] == "1"
    with pytest.raises(TimeoutError):
        client.get_run()


CHAMPION_OF_A_LOCKED_FILE = """
from buckler.errors import RegistryError
from buckler.serving.registry import Registry
try:
    Registry("lesions", keys=None, id="local").by_alias("champion")
except RegistryError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_locked_file_of_mlflow_is_one_line_without_a_traceback(tmp_path):
    """MLflow waits 20 seconds for it; its first call fails in another way than later ones."""
    Registry("lesions", keys=None, id="local").by_alias(CHAMPION)
    with closing(sqlite3.connect(tmp_path / ".buckler/mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        command = [sys.executable, "-c", CHAMPION_OF_A_LOCKED_FILE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        with pytest.raises(RegistryError, match=r"database is locked .*; another process is writing to it"):
            Registry("lesions", keys=None, id="local").by_alias(CHAMPION)
    assert done.stdout.count("\n") == 1
    assert "database is locked (registry sqlite:///.buckler/mlflow.db; another process is writing" in done.stdout
    assert done.stderr == ""
