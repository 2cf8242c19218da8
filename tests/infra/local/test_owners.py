"""`make up` and `make down` where files or servers belong to another user, as after one command with sudo."""

import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local import __main__ as command
from infra.local import champion, members, places, processes, servers
from infra.local.places import LocalError
from tests.absent import AS_ROOT

pytestmark = [
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    AS_ROOT,
]
USER = pwd.getpwnam("nobody")


@contextmanager
def as_user() -> Iterator[None]:
    os.seteuid(USER.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def project(root: Path, pages, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project in a folder that every user can enter, as the user's own."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(root, folder, dirs_exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER.pw_uid, USER.pw_gid)
    folder.chmod(0o755)
    monkeypatch.setattr(places, "ROOT", folder)
    monkeypatch.chdir(folder)
    yield folder
    servers.stop()
    shutil.rmtree(folder)


def error_of(action: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", ["infra.local", action])
    monkeypatch.setattr(champion, "say", lambda: None)  # the user cannot run root's Python
    with pytest.raises(SystemExit) as caught:
        command.main()
    return str(caught.value.code)


def test_root_starts_nothing_in_the_folder_of_another_user(project: Path, monkeypatch: pytest.MonkeyPatch):
    said = error_of("up", monkeypatch)
    assert said.startswith(f"error: expected nobody, whose folder {project} is, got root")
    assert said.endswith("run it without sudo, or set BUCKLER_ALLOW_ROOT=1")
    assert not (project / ".buckler").exists()


@pytest.mark.parametrize(
    "denied", ["monitoring/.prometheus.old/rules", "monitoring", "run", "run/service.log", "run/lock"]
)
def test_up_names_the_file_of_another_user_its_owner_and_what_to_do(project: Path, denied: str, monkeypatch):
    path = project / ".buckler" / denied
    for each in (project / ".buckler", *(project / ".buckler" / name for name in ("run", "monitoring", path.parent))):
        each.mkdir(exist_ok=True)
        os.chown(each, USER.pw_uid, USER.pw_gid)
    if path.suffix or path.name == "lock":
        path.touch(0o600)
    else:
        path.mkdir(exist_ok=True)
        (path / "alerts.yml").touch(0o600)
    os.chown(path, 0, 0)
    with as_user():
        said = error_of("up", monkeypatch)
    assert len(said.splitlines()) == 1
    assert said.startswith(f"error: permission denied: {project}/.buckler/")
    assert "belongs to root, as after a command with sudo" in said
    assert said.endswith(f"`sudo chown -R nobody {project}/.buckler`")
    assert not members.found()


def test_down_stops_what_it_may_and_names_who_started_the_rest(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(places.ALLOW_ROOT, "1")
    servers.up()
    with as_user():
        said = error_of("down", monkeypatch)
        assert said.startswith("error: service, console: started by root, whose processes you may not stop;")
        assert said.endswith("stop them with `sudo make down`")
        with pytest.raises(LocalError, match="started by root"):
            servers.up()
    assert processes.running("service")
    assert servers.stop() == ["service", "console"]


def test_down_leaves_an_old_number_of_another_users_process_alone(project: Path):
    (project / ".buckler/run").mkdir(parents=True)
    file = project / ".buckler/run/service.pid"
    file.write_text(str(os.getppid()))
    os.utime(file, (0, 0))  # written before that process began
    with as_user():
        assert servers.stop() == []
