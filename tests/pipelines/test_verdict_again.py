"""Which verdict DVC takes from its cache, and what `publish` does with it: the real entries of dvc.yaml, without the
stages before the gate."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from buckler.serving.registry import Registry, connect
from buckler.state import paths
from buckler.trust import keys
from buckler.trust.verdict import verify_release

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NAMES = "PublishParams('case', 'case')"
PROGRAMS = {
    "signer": "from pipelines import signer; signer.run(policy)",
    "gate": f"from pipelines import gate; gate.run(policy, {NAMES})",
    "publish": f"from pipelines import publish; publish.run({NAMES})",
}
HEAD = "from buckler.release.settings import PublishParams\nfrom tests import projects\npolicy = projects.LENIENT\n"


@pytest.fixture
def repro(project):
    """A function that runs `dvc repro` over the last stages and returns which of them ran, and the output."""
    entries = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    stages = {name: only_present(entries[name], project) | {"cmd": f"python {name}.py"} for name in PROGRAMS}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (project / "params.yaml").write_text(
        "gate: {valid_days: 30}\npublish: {intended_use: x, model_name: case}\nprofiles: {}\n"
    )
    (project / "requirements.lock").write_text("")
    for name, program in PROGRAMS.items():
        (project / f"{name}.py").write_text(f"{HEAD}{program}\n")
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(project / "site"),
    }

    def run(*command):
        done = subprocess.run(
            [BIN / "dvc", *command], cwd=project, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return re.findall("Running stage '(.*)'", done.stdout), done.stdout

    run("init", "--no-scm", "--quiet")
    return lambda: run("repro")


def only_present(entry, project):
    """Return the entry of a stage without code and reports that the small project lacks."""
    written = ("data/signer.json", "models/release", "reports/gate.json")
    deps = [dep for dep in entry["deps"] if dep in written or (not dep.endswith(".py") and (project / dep).exists())]
    return {**entry, "deps": deps}


def test_what_was_removed_is_published_again_and_no_verdict_of_another_key_comes_back(repro, project):
    assert repro()[0] == ["signer", "gate", "publish"]
    first = keys.load_public_keys()
    ran, said = repro()
    assert ran == ["signer", "publish"]
    assert "already registered as version 1" in said

    for path in (paths.MLFLOW_DATABASE, paths.MLFLOW_ARTIFACTS):  # another registry, or a purged one
        path.rename(f"{path}.aside")
    ran, said = repro()
    assert ran == ["signer", "publish"]
    assert "registered as version 1 (challenger)" in said
    shutil.rmtree(paths.MLFLOW_ARTIFACTS)  # only the files are lost
    ran, said = repro()
    assert "registered as version 2 (challenger)" in said

    paths.KEYS.rename(project / "lost")  # as in the clone of a colleague who shares the cache
    ran, said = repro()
    assert ran == ["signer", "gate", "publish"]
    assert "registered as version 3 (challenger)" in said
    second = keys.load_public_keys()
    assert second != first
    assert verify_release(project / "models/release", second).passed

    shutil.rmtree(paths.KEYS)
    (project / "lost").rename(paths.KEYS)
    assert repro()[0] == ["signer", "publish"]  # the first key's verdict comes back with the key
    assert verify_release(project / "models/release", first).passed


def test_an_expired_verdict_is_made_again(repro, project):
    repro()
    (project / "signer.py").write_text(
        f"{HEAD}from datetime import UTC, datetime, timedelta\nfrom pipelines import signer\n"
        "signer.run(policy, datetime.now(UTC) + timedelta(days=policy.valid_days))\n"
    )
    ran, said = repro()
    assert ran == ["signer", "gate", "publish"]
    assert "registered as version 2 (challenger)" in said


def test_a_run_that_was_never_finished_is_ended_as_failed(repro, project):
    repro()
    run = Registry("case").version("1").run_id
    client = connect()
    client.update_run(run, status="RUNNING")  # as a server that dies leaves it
    other = client.create_run(client.get_run(run).info.experiment_id, tags={"buckler.kind": "pipeline"}).info.run_id
    repro()
    status = {found: MlflowClient().get_run(found).info.status for found in (run, other)}
    assert status == {run: "FAILED", other: "RUNNING"}
