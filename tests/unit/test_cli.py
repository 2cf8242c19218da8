import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from buckler import cli
from buckler.detection import screening
from buckler.serving import api_keys
from buckler.serving.registry import connect
from buckler.state import paths
from buckler.trust import keys
from tests import projects


@pytest.fixture
def published(project, registry, fake_networks):
    """A project with a published model that passed; the function publishes another."""
    (project / "params.yaml").write_text(
        f"publish: {{experiment: {registry}, model_name: {registry}}}\n"
        "train:\n  epochs: 15  # as the paper\n  hidden: [128, 64]\n"
        "profiles: {quick: {train.epochs: 1}}\n"
    )
    keys.generate_key_pair(paths.KEYS, keys.VERDICTS, keys.PROMOTIONS)

    def publish(**results):
        projects.make_project(project, **results)
        verdict = projects.build(project, name=registry, key=keys.load_signing_key())
        projects.publish(project, verdict, registry)

    publish()
    return publish


def test_help_loads_neither_mlflow_nor_tensorflow():
    heavy = "{'mlflow', 'tensorflow', 'keras', 'scipy', 'bentoml'}"
    script = f"""
import sys
from buckler import cli
from buckler.detection import screening
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


def test_a_promotion_without_a_comparison_is_a_decision_of_its_own(published, registry, capsys):
    assert cli.main(["promote"]) == 0
    shutil.rmtree(paths.DOWNLOADS)
    shutil.rmtree(Path(connect().get_model_version_download_uri(registry, "1").removeprefix("file://")))
    published(weights=b"other")
    assert cli.main(["promote"]) == 1
    assert "buckler promote --without-comparison" in capsys.readouterr().err
    assert cli.main(["promote", "--without-comparison"]) == 0
    assert "not compared with the champion, version 1" in capsys.readouterr().out


def test_promote_champion_and_rollback_print_the_champion(published, registry, capsys):
    assert cli.main(["promote"]) == 0
    assert f"{registry}: promoted, the champion is version 1" in capsys.readouterr().out
    assert cli.main(["promote"]) == 0
    assert "version 1 is already the champion" in capsys.readouterr().out
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
    error = capsys.readouterr().err
    assert error.startswith("refused: ")
    assert "clean accuracy 0.600 < 0.700" in error


def test_an_impossible_command_exits_2_with_one_line(published, capsys):
    assert cli.main(["rollback"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_outside_a_project_the_missing_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["promote"]) == 2
    assert "no params.yaml" in capsys.readouterr().err


def test_a_release_is_valid_until_a_byte_changes(published, project, capsys):
    assert cli.main(["verify", "models/release"]) == 0
    assert "models/release is valid" in capsys.readouterr().out
    (project / "models/release/model/model.json").write_text("{}")
    assert cli.main(["verify", "models/release"]) == 1
    assert "differ from the digests in the verdict: ['model/model.json']" in capsys.readouterr().err


def test_a_release_of_another_version_of_the_product_is_reported_before_a_service_refuses_it(
    published, project, registry, capsys, monkeypatch
):
    assert cli.main(["promote"]) == 0
    monkeypatch.setattr(screening, "SCHEMA", screening.SCHEMA + 1)  # the product was updated
    capsys.readouterr()
    assert cli.main(["verify", "models/release"]) == 0
    assert cli.main(["champion"]) == 1
    printed = capsys.readouterr()
    assert "serves     no: the service keeps the release that it verified last" in printed.out
    assert printed.err.startswith("unloadable this version of the product cannot load the model: the release: expected")
    assert "run `dvc repro` and `buckler promote`" in printed.err
    assert cli.main(["promote", "--version", "1"]) == 1
    assert "this version of the product cannot load the model" in capsys.readouterr().err
    published(weights=b"made by the new version")
    assert cli.main(["promote"]) == 0
    assert "the champion, version 1: this version of the product cannot load" in capsys.readouterr().out
    assert cli.main(["champion"]) == 0
    assert "serves     yes\n" in capsys.readouterr().out


def test_signing_keys_are_created_once(project, capsys):
    assert cli.main(["keys", "init"]) == 0
    assert keys.load_public_keys()
    assert cli.main(["keys", "init"]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert cli.main(["keys", "init", "--directory", "elsewhere"]) == 0


def test_keys_init_creates_a_pair_for_verdicts_and_one_for_promotions_or_the_named_one(project, capsys):
    assert cli.main(["keys", "init"]) == 0
    created = sorted(path.name for path in paths.KEYS.iterdir())
    assert created == ["promotion.pem", "promotion.pub", "verdict.pem", "verdict.pub"]
    assert "promotion.pem (signs promotions; keep it secret" in capsys.readouterr().out
    assert cli.main(["keys", "init", "--for", "promotions", "--directory", "elsewhere"]) == 0
    assert sorted(path.name for path in Path("elsewhere").iterdir()) == ["promotion.pem", "promotion.pub"]


def test_an_api_key_is_created_shown_once_listed_and_revoked(project, capsys):
    assert cli.main(["keys", "list"]) == 0
    assert "`buckler keys create` creates one" in capsys.readouterr().out

    assert cli.main(["keys", "create", "--role", "predict", "--name", "ward-3"]) == 0
    printed = capsys.readouterr()
    secret = printed.out.strip()
    created = api_keys.KeyRing(paths.API_KEYS).find(secret)
    assert (created.role, created.name) == ("predict", "ward-3")
    assert f"created key {created.id} (predict, ward-3)" in printed.err
    assert secret not in printed.err

    assert cli.main(["keys", "list"]) == 0
    line = capsys.readouterr().out
    assert re.fullmatch(rf"{created.id}  predict   ward-3 +  created \S+  active\n", line)
    assert cli.main(["keys", "revoke", created.id]) == 0
    assert cli.main(["keys", "list"]) == 0
    assert "  revoked 2" in capsys.readouterr().out
    assert cli.main(["keys", "revoke", created.id]) == 2
    assert "was already revoked at" in capsys.readouterr().err


def test_an_option_or_a_variable_names_the_file_of_api_keys(project, monkeypatch, capsys):
    monkeypatch.setenv(api_keys.API_KEYS_ENV, "elsewhere/keys.json")
    assert cli.main(["keys", "create", "--role", "predict", "--name", "a"]) == 0
    assert cli.main(["keys", "create", "--role", "predict", "--name", "b", "--file", "third.json"]) == 0
    assert [key.name for key in api_keys.read(project / "elsewhere/keys.json")] == ["a"]
    assert [key.name for key in api_keys.read(project / "third.json")] == ["b"]


def test_an_api_key_is_written_to_a_new_file_or_revoked(project, capsys):
    create = ["keys", "create", "--role", "operate", "--name", "prometheus", "--out", "service.key"]
    assert cli.main(create) == 0
    secret = (project / "service.key").read_text().strip()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "service.key" in printed.err
    assert cli.main(create) == 2
    assert "File exists" in capsys.readouterr().err
    assert (project / "service.key").read_text().strip() == secret
    assert [bool(key.revoked_at) for key in api_keys.read(paths.API_KEYS)] == [False, True]


def test_the_command_line_offers_the_roles_of_the_keys(project, capsys):
    for role in api_keys.Role:
        assert cli.main(["keys", "create", "--role", role, "--name", "x"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["keys", "create", "--role", "root", "--name", "x"])
    error = capsys.readouterr().err
    assert all(f"'{role}'" in error for role in api_keys.Role)


def test_a_profile_and_settings_are_written_and_comments_remain(published, project):
    assert cli.main(["profile", "quick", "--set", "train.hidden=[8, 4]"]) == 0
    text = (project / "params.yaml").read_text()
    assert yaml.safe_load(text)["train"] == {"epochs": 1, "hidden": [8, 4]}
    assert "# as the paper" in text


@pytest.mark.parametrize("setting", ["train.epochs", "epochs=3", "train.epochs=[", "train.unknown=3"])
def test_an_invalid_setting_is_rejected(published, project, capsys, setting):
    before = (project / "params.yaml").read_text()
    assert cli.main(["profile", "quick", "--set", setting]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert (project / "params.yaml").read_text() == before


def test_an_unknown_job_and_a_job_that_cannot_run_exit_2(project, capsys):
    assert cli.main(["watch", "--once", "dance"]) == 2
    assert "dance" in capsys.readouterr().err
    assert cli.main(["watch", "--once", "reevaluate"]) == 2
    assert "no params.yaml" in capsys.readouterr().err


def test_a_command_must_be_given(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (paths.KEYS / ".api.json.lock").mkdir(parents=True)
    assert cli.main(["keys", "create", "--role", "predict", "--name", "ward"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the API keys: expected a file at .buckler/keys/.api.json.lock, got a folder; ")
    assert line.endswith("or BUCKLER_API_KEYS names another file")
