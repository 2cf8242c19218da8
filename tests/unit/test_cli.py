import subprocess
import sys

import pytest
import yaml

from buckler import cli, publishing, release, signing
from tests import projects


@pytest.fixture
def published(project, registry):
    """A project with a published model that passed; the function publishes another."""
    (project / "params.yaml").write_text(
        f"publish: {{experiment: {registry}, model_name: {registry}}}\n"
        "train:\n  epochs: 15  # as the paper\n  hidden: [128, 64]\n"
        "profiles: {quick: {train.epochs: 1}}\n"
    )
    signing.generate_key_pair(signing.KEY_DIR)

    def publish(**results):
        projects.make_project(project, **results)
        verdict = projects.build(project, name=registry, key=signing.load_private_key())
        publishing.publish(
            project / "models/release",
            project / "reports",
            names=release.PublishParams(registry, registry),
            parameters={},
            source=release.Source(None, False),
            verdict=verdict,
        )

    publish()
    return publish


def test_help_loads_neither_mlflow_nor_tensorflow():
    heavy = "{'mlflow', 'tensorflow', 'keras', 'scipy', 'bentoml'}"
    script = f"""
import sys
from buckler import cli
try:
    cli.main(["--help"])
except SystemExit:
    pass
loaded = {heavy} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "promote" in done.stdout


def test_promote_champion_and_rollback_tell_the_way(published, registry, capsys):
    assert cli.main(["promote"]) == 0
    assert f"{registry}: promoted, the champion is version 1" in capsys.readouterr().out
    assert cli.main(["promote"]) == 0
    assert "version 1 is the champion already" in capsys.readouterr().out
    published(weights=b"other")
    assert cli.main(["promote", "--version", "2"]) == 0
    assert "(before: version 1)" in capsys.readouterr().out
    assert cli.main(["champion"]) == 0
    shown = capsys.readouterr().out
    assert "version 2" in shown
    assert "verdict    passed" in shown
    assert cli.main(["rollback"]) == 0
    assert "rolled back, the champion is version 1 (before: version 2)" in capsys.readouterr().out


def test_a_refused_promotion_exits_1_with_its_reasons(published, capsys):
    published(clean=60)
    capsys.readouterr()
    assert cli.main(["promote"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("refused: ")
    assert "clean accuracy 0.600 < 0.700" in said


def test_what_cannot_be_done_exits_2_with_one_line(published, capsys):
    assert cli.main(["rollback"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_outside_a_project_the_missing_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["promote"]) == 2
    assert "no params.yaml" in capsys.readouterr().err


def test_verify_holds_until_a_byte_changes(published, project, capsys):
    assert cli.main(["verify", "models/release"]) == 0
    assert "models/release holds" in capsys.readouterr().out
    (project / "models/release/model/model.json").write_text("{}")
    assert cli.main(["verify", "models/release"]) == 1
    assert "refused: the verdict is about" in capsys.readouterr().err


def test_keys_are_made_once(project, capsys):
    assert cli.main(["keys", "init"]) == 0
    assert signing.load_public_key()
    assert cli.main(["keys", "init"]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert cli.main(["keys", "init", "--directory", "elsewhere"]) == 0


def test_a_profile_and_settings_are_written_and_comments_stay(published, project):
    assert cli.main(["profile", "quick", "--set", "train.hidden=[8, 4]"]) == 0
    text = (project / "params.yaml").read_text()
    assert yaml.safe_load(text)["train"] == {"epochs": 1, "hidden": [8, 4]}
    assert "# as the paper" in text


@pytest.mark.parametrize("setting", ["train.epochs", "epochs=3", "train.epochs=[", "train.unknown=3"])
def test_a_setting_that_makes_no_sense_is_refused(published, project, capsys, setting):
    before = (project / "params.yaml").read_text()
    assert cli.main(["profile", "quick", "--set", setting]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert (project / "params.yaml").read_text() == before


def test_a_job_that_cannot_run_exits_2_and_an_unknown_one_too(project, capsys):
    assert cli.main(["watch", "--once", "dance"]) == 2
    assert "dance" in capsys.readouterr().err
    assert cli.main(["watch", "--once", "reevaluate"]) == 2
    assert "no params.yaml" in capsys.readouterr().out


def test_a_command_must_be_given(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
