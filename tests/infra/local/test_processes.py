"""`make up` and `make down` know their servers by more than a number in a file, and end what is left of them."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from infra.local import logs, members, ports, processes, servers
from infra.local.places import LocalError
from tests.absent import ON_LINUX
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    ON_LINUX,
]
# Like MLflow and the service: the process that is started starts another, in a session of its own, that answers.
LEADER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", sys.argv[1]], start_new_session=True)
time.sleep(600)
"""


@pytest.fixture
def families(root: Path, monkeypatch: pytest.MonkeyPatch):
    """Two servers that each consist of two processes."""

    def described(at: ports.Ports) -> list[processes.Process]:
        return [
            processes.Process(
                name, [sys.executable, "-c", LEADER, str(at[name])], at[name], "/params.yaml", {name: "/"}
            )
            for name in ("mlflow", "service")
        ]

    monkeypatch.setattr(servers, "described", described)
    yield root
    servers.stop()
    assert not members.found()


def pid(root: Path, name: str) -> int:
    return int((root / f".buckler/run/{name}.pid").read_text())


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: members.began(process) is None, 10)


def test_up_replaces_a_killed_server_whose_child_holds_the_port_and_touches_nothing_else(families: Path, capsys):
    servers.up()
    at, well = dict(ports.current()), pid(families, "service")
    kill(pid(families, "mlflow"))
    assert processes.answers(f"http://127.0.0.1:{at['mlflow']}/")  # the orphan
    assert processes.running("mlflow") is None
    assert len(processes.remains("mlflow")) == 1
    capsys.readouterr()

    assert servers.up() == ["mlflow"]
    assert "ending what is left of mlflow" in capsys.readouterr().out
    assert dict(ports.current()) == at
    assert pid(families, "service") == well
    assert processes.running("service") == well
    assert len([member for member in members.found() if member.name == "mlflow"]) == 2


def test_down_ends_what_a_killed_server_left(families: Path):
    servers.up()
    at = dict(ports.current())
    kill(pid(families, "mlflow"))
    assert servers.stop() == ["mlflow", "service"]
    assert not members.found()
    assert not processes.answers(f"http://127.0.0.1:{at['mlflow']}/")


def test_servers_are_found_without_their_files(families: Path):
    servers.up()
    at = dict(ports.current())
    for file in (families / ".buckler/run").glob("*.*"):
        file.unlink()
    assert dict(ports.current()) == at
    assert servers.up() == []
    assert pid(families, "mlflow") == processes.running("mlflow")
    assert servers.stop() == ["mlflow", "service"]


def test_down_needs_no_settings_keys_or_files_of_its_own(families: Path, monkeypatch: pytest.MonkeyPatch):
    servers.up()
    (families / "params.yaml").unlink()
    (families / ".buckler/run/lock").unlink()
    (families / ".buckler/run/lock").mkdir()  # cannot be opened
    monkeypatch.setenv("BUCKLER_SCRAPE_KEY_FILE", "/nonexistent")
    monkeypatch.setenv("BUCKLER_SERVICE_PORT", "not a port")
    monkeypatch.setattr(ports, "remember", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert servers.stop() == ["mlflow", "service"]


@pytest.mark.parametrize("of_another", ["process", "project"])
def test_a_number_that_belongs_to_another_program_is_left_alone(root: Path, tmp_path_factory, of_another: str):
    """After a reboot, the number in a pid file may be anybody's; a copied project has the file, too."""
    folder = root if of_another == "process" else tmp_path_factory.mktemp("other")
    mark = {members.MARK: f"mlflow:5000:{folder}"} if of_another == "project" else {}
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], cwd=folder, env=os.environ | mark
    ) as other:
        (root / ".buckler/run").mkdir(parents=True)
        (root / ".buckler/run/mlflow.pid").write_text(str(other.pid))
        assert processes.running("mlflow") is None
        assert servers.stop() == []
        assert other.poll() is None
        other.kill()


def test_a_server_of_an_earlier_version_is_known_by_its_command_and_folder(root: Path):
    command = [sys.executable, "-c", "import time; time.sleep(600)", "mlflow"]
    with subprocess.Popen(command, cwd=root, start_new_session=True) as earlier:
        (root / ".buckler/run").mkdir(parents=True)
        (root / ".buckler/run/mlflow.pid").write_text(str(earlier.pid))
        wait_for(lambda: processes.running("mlflow") == earlier.pid, 10)
        assert servers.stop() == ["mlflow"]
        assert members.began(earlier.pid) is None


def test_a_renamed_project_still_finds_its_servers(families: Path, tmp_path_factory, monkeypatch):
    servers.up()
    renamed = tmp_path_factory.mktemp("renamed") / "project"
    families.rename(renamed)
    try:
        monkeypatch.setattr("infra.local.places.ROOT", renamed)
        assert processes.running("mlflow") == pid(renamed, "mlflow")
        assert servers.stop() == ["mlflow", "service"]
    finally:
        renamed.rename(families)
        monkeypatch.setattr("infra.local.places.ROOT", families)


def test_two_commands_at_once_start_each_server_once(families: Path, capsys):
    started: list[list[str]] = []
    both = [threading.Thread(target=lambda: started.append(servers.up())) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(60)
    assert sorted(started) == [[], ["mlflow", "service"]]
    assert len([member for member in members.found() if member.name != logs.NAME]) == 4
    assert "waiting for another `make up` of this project" in capsys.readouterr().out


def test_a_command_that_never_ends_is_named(families: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(servers, "PATIENCE_SECONDS", 0)
    (families / ".buckler/run").mkdir(parents=True)
    with servers._alone(), pytest.raises(LocalError, match=r"another `make up` of this project has held .*/lock"):
        servers.up()


def test_a_port_that_is_no_number_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUCKLER_SERVICE_PORT", "70000")
    with pytest.raises(LocalError, match="BUCKLER_SERVICE_PORT: expected a port from 1 to 65535, got '70000'"):
        ports.current()


def test_no_request_to_a_server_goes_through_a_proxy(families: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "example.org")
    monkeypatch.setattr(urllib.request, "_opener", None)  # that of an earlier test knows no proxy
    began = time.monotonic()
    assert servers.up() == ["mlflow", "service"]
    assert time.monotonic() - began < 60
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{ports.current()['service']}/", timeout=5)
