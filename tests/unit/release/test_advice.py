"""Following the advice of an error leads to a working state: the commands that it names are run."""

import re
import shlex
import shutil

import pytest

from buckler import cli
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.state import paths
from buckler.trust import keys
from tests import projects


@pytest.fixture
def publish(project, registry, fake_networks):
    """A function that gates and publishes a release with the project's key."""
    (project / "params.yaml").write_text(f"publish: {{experiment: {registry}, model_name: {registry}}}\n")

    def publish_one(**results):
        projects.make_project(project, **results)
        key, _ = keys.load_or_create_signing_key()
        return projects.publish(project, projects.build(project, name=registry, key=key), registry)

    publish_one()
    return publish_one


def advised(command, capsys):
    """Run a command that must not succeed, then the first command of Buckler that its errors name."""
    capsys.readouterr()
    assert cli.main(command) != 0
    said = capsys.readouterr().err
    found = re.search(r"`(buckler [^`]+)`", said)
    assert found, said
    advice = found.group(1).replace("NAME", "alice").replace("TEXT", "'the keys were lost'")
    assert cli.main(shlex.split(advice)[1:]) == 0, f"{said}\n{advice}\n{capsys.readouterr().err}"


def holds():
    return cli.main(["champion"]) == 0


def test_without_a_champion(publish, capsys):
    advised(["champion"], capsys)
    assert holds()


def test_with_an_alias_that_was_moved_back_by_hand_after_a_rollback(publish, registry, capsys):
    assert cli.main(["promote"]) == 0
    publish(weights=b"other")
    assert cli.main(["promote"]) == 0
    assert cli.main(["rollback"]) == 0
    WritableRegistry(registry).set_alias(CHAMPION, "2")
    capsys.readouterr()
    assert cli.main(["champion"]) == 1
    assert "superseded" in capsys.readouterr().err
    advised(["champion"], capsys)
    assert holds()
    assert WritableRegistry(registry).champion().version == "1"


def test_with_an_alias_that_names_a_version_that_was_never_promoted(publish, registry, capsys):
    assert cli.main(["promote"]) == 0
    number = publish(weights=b"other")
    WritableRegistry(registry).set_alias(CHAMPION, number)
    advised(["promote"], capsys)
    assert holds()


def test_after_all_keys_were_lost(publish, registry, capsys):
    assert cli.main(["promote"]) == 0
    shutil.rmtree(paths.KEYS)
    capsys.readouterr()
    assert cli.main(["champion"]) == 2
    assert "`buckler keys init`" in capsys.readouterr().err
    advised(["champion"], capsys)
    publish()  # as `dvc repro` does with another key
    advised(["promote"], capsys)
    assert cli.main(["promote"]) == 0
    assert holds()


def test_after_the_registry_was_lost_and_the_journal_kept(publish, registry, capsys, project, monkeypatch):
    assert cli.main(["promote"]) == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/another.db")
    publish(weights=b"with another verdict")
    capsys.readouterr()
    assert cli.main(["promote"]) == 1
    assert "if it is a new one, give it an id of its own in BUCKLER_REGISTRY_ID" in capsys.readouterr().err
    monkeypatch.setenv("BUCKLER_REGISTRY_ID", "the new one")
    assert cli.main(["promote"]) == 0
    assert holds()
