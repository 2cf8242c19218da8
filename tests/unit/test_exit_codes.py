"""Exit code 1 of `champion`, `promote` and `verify` says that something is refused; 2 that they could not tell."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.servers import free_port
from buckler import cli
from buckler.serving.registry import connect
from buckler.state import paths
from buckler.trust import keys
from infra.local import champion, places
from tests import projects

REFUSED, COULD_NOT_TELL = 1, 2
COMMANDS = [["champion"], ["promote"], ["promote", "--version", "1"], ["rollback"]]


@pytest.fixture
def promoted(project, registry, fake_networks, capsys):
    """A project with a champion, whose registry is a database of its own."""
    (project / "params.yaml").write_text(f"publish: {{experiment: {registry}, model_name: {registry}}}\n")
    keys.generate_key_pair(paths.KEYS, keys.VERDICTS, keys.PROMOTIONS)
    verdict = projects.build(project, name=registry, key=keys.load_signing_key())
    projects.publish(project, verdict, registry)
    assert cli.main(["promote"]) == 0
    capsys.readouterr()
    return registry


def said(command, capsys):
    code, printed = cli.main(command), capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.err


def no_server(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def a_damaged_database(project, monkeypatch):
    (project / "damaged.db").write_bytes(b"no database" * 1000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/damaged.db")


def a_key_that_is_a_directory(project, monkeypatch):
    (paths.KEYS / "verdict.pub").unlink()
    (paths.KEYS / "verdict.pub").mkdir()


def a_damaged_key(project, monkeypatch):
    (paths.KEYS / "promotion.pub").write_text("-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n")


def settings_that_are_none(project, monkeypatch):
    (project / "params.yaml").write_bytes(b"\x00\xff{")


def settings_that_end_too_early(project, monkeypatch):
    (project / "params.yaml").write_text("publish: {experiment: [")


def a_damaged_journal(project, monkeypatch):
    for path in paths.SIGNED.rglob("*.jsonl"):
        path.write_text("{}\n")


@pytest.mark.parametrize(
    "harm",
    [
        no_server,
        a_damaged_database,
        a_key_that_is_a_directory,
        a_damaged_key,
        settings_that_are_none,
        settings_that_end_too_early,
        a_damaged_journal,
    ],
)
def test_what_prevents_an_answer_is_no_refusal(promoted, project, monkeypatch, capsys, harm):
    harm(project, monkeypatch)
    for command in COMMANDS:
        code, error = said(command, capsys)
        assert (code, error.startswith("error: "), error.count("\n")) == (COULD_NOT_TELL, True, 1), (command, error)


def test_a_database_that_another_program_keeps_locked_is_no_refusal(promoted, project):
    database = project / "own.db"
    command = [Path(sys.executable).parent / "buckler", "champion"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{database}"}
    sqlite3.connect(database).execute("create table one (two)")
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("begin exclusive")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == COULD_NOT_TELL, done.stderr
    assert done.stderr.startswith("error: ")
    assert "database is locked" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_that_the_store_lost_are_no_refusal(promoted, capsys):
    shutil.rmtree(Path(connect().get_model_version_download_uri(promoted, "1").removeprefix("file://")))
    shutil.rmtree(paths.DOWNLOADS)
    for command in (["champion"], ["promote", "--version", "1"]):
        code, error = said(command, capsys)
        assert (code, "did not provide the release" in error) == (COULD_NOT_TELL, True), error


def test_a_directory_that_is_none_cannot_be_verified(promoted, capsys):
    code, error = said(["verify", "models/relase"], capsys)
    assert (code, error) == (
        COULD_NOT_TELL,
        "error: expected the directory of a release, got models/relase; `dvc repro` writes one\n",
    )
    assert said(["verify", "models/release"], capsys)[0] == 0


def test_a_release_that_does_not_hold_is_refused(promoted, project, capsys):
    connect().delete_model_version_tag(promoted, "1", "buckler.promotion")
    assert said(["champion"], capsys)[0] == REFUSED
    (project / "models/release/model/model.json").write_text("{}")
    assert said(["verify", "models/release"], capsys)[0] == REFUSED


def test_a_bug_is_no_refusal(monkeypatch, capsys):
    def broken(_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("buckler.cli.releases._champion", broken)
    assert cli.main(["champion"]) == COULD_NOT_TELL
    assert "a bug" in capsys.readouterr().err


def test_make_up_says_that_the_service_will_not_take_the_champion(promoted, project, monkeypatch, capsys):
    monkeypatch.setattr(places, "ROOT", project)
    champion.say()  # in a process of its own, where the network of a few bytes is tried
    said_by_up = capsys.readouterr().out
    assert "the champion is not in order; the service keeps a release that it verified before" in said_by_up
    assert "run `dvc repro` and `buckler promote`" in said_by_up
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/empty.db")
    champion.say()
    assert capsys.readouterr().out == ""
