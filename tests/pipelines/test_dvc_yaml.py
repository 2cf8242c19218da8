"""dvc.yaml: every stage depends on the code it imports and runs with the Python that runs DVC."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml

from buckler import params
from pipelines import dependencies
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Not imported, but their content decides what a stage writes.
DATA = ("data/", "models/", "reports/", "${", ".dvc")


@cache
def graph():
    return grimp.build_graph("buckler", "pipelines", cache_dir=None)


def file_of(module):
    base = (ROOT / "src" if module.startswith("buckler") else ROOT).joinpath(*module.split("."))
    return base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"


def imported_by(module):
    """Return the files of all modules below ``module`` with code, from import-linter's graph."""
    found = {module, *graph().find_upstream_modules(module)}
    by_name = "buckler.modality.table" in found  # imports modalities by their names
    if by_name:
        modalities = graph().find_descendants("buckler.modality")
        found |= modalities.union(*map(graph().find_upstream_modules, modalities))
    # Importing a module runs its packages; those at the top only list public names.
    found |= {name.rsplit(".", n)[0] for name in found for n in range(1, name.count("."))}
    files = {file_of(name) for name in found - {"buckler", "pipelines"}}
    templates = {file for module in files if module.parent.name == "templates" for file in module.parent.glob("*.*")}
    names = {file.relative_to(ROOT).as_posix() for file in files | templates if file.read_text().strip()}
    folder = "src/buckler/modality"
    return {folder, *(name for name in names if not name.startswith(f"{folder}/"))} if by_name else names


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies_are_exactly_what_the_stage_imports(name):
    declared = {dep for dep in STAGES[name]["deps"] if not dep.startswith(DATA)} - {"requirements.lock"}
    assert declared == imported_by(f"pipelines.{name}"), "run `make deps`"


def test_every_stage_runs_the_module_of_its_name():
    for name, stage in STAGES.items():
        assert stage["cmd"] == f"pipelines/run {name}"
        assert (ROOT / f"pipelines/{name}.py").is_file()
        assert stage["desc"]


@pytest.fixture
def project(tmp_path):
    """A project of one stage that records which Python runs it."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/run").write_bytes((ROOT / "pipelines/run").read_bytes())
    (tmp_path / "pipelines/run").chmod(0o755)
    (tmp_path / "pipelines/note.py").write_text("import sys; open('note', 'w').write(sys.executable)")
    (tmp_path / "dvc.yaml").write_text(yaml.dump({"stages": {"note": {"cmd": "pipelines/run note"}}}))
    return tmp_path


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("path", ["/usr/bin:/bin", "{decoy}:/usr/bin:/bin"])
def test_a_stage_runs_with_the_python_of_dvc_in_a_shell_that_has_nothing_activated(project, tmp_path, path, shell):
    decoy = tmp_path / "decoy"
    decoy.mkdir()
    for name in ("python", "python3"):
        (decoy / name).write_text("#!/bin/sh\nexit 3\n")
        (decoy / name).chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": path.format(decoy=decoy), "SHELL": shell}
    dvc = Path(sys.executable).parent / "dvc"
    for command in (["init", "--no-scm", "-q"], ["repro", "-q"]):
        subprocess.run([dvc, *command], cwd=project, env=environment, check=True, timeout=120)
    assert (project / "note").read_text() == sys.executable


def test_a_stage_ends_when_dvc_alone_is_killed(project, tmp_path):
    """Otherwise an attack would run on beside the one that the next `dvc repro` starts."""
    (project / "pipelines/note.py").write_text(
        "import os, time; from buckler.state import parents; parents.end_with_parent();"
        "open('note', 'w').write(str(os.getpid())); time.sleep(120)"
    )
    dvc = Path(sys.executable).parent / "dvc"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([dvc, "init", "--no-scm", "-q"], cwd=project, env=environment, check=True, timeout=120)
    with subprocess.Popen([dvc, "repro", "-q"], cwd=project, env=environment) as running:
        wait_for(lambda: (project / "note").is_file() and (project / "note").read_text() != "")
        running.kill()
    stage = Path("/proc", (project / "note").read_text())
    wait_for(lambda: not stage.exists() or ") Z " in (stage / "stat").read_text(), 10)


def test_make_deps_corrects_missing_and_superfluous_dependencies(tmp_path, monkeypatch, capsys):
    copy = tmp_path / "dvc.yaml"
    text = (ROOT / "dvc.yaml").read_text()
    copy.write_text(text.replace("      - pipelines/stage.py\n", "", 1).replace("pipelines/preflight.py", "gone.py", 1))
    monkeypatch.setattr(dependencies, "DVC_YAML", copy)
    dependencies.main()
    assert capsys.readouterr().out == "dvc.yaml: weights, preflight changed\n"
    assert copy.read_text() == text
    dependencies.main()
    assert capsys.readouterr().out == "dvc.yaml: nothing changed\n"


def test_every_parameter_that_a_stage_names_exists():
    values = params.read(ROOT / "params.yaml")
    for stage in STAGES.values():
        for key in stage.get("params", []):
            section, _, entry = key.partition(".")
            assert section in values
            assert not entry or entry in values[section]


def test_every_section_is_read_by_a_stage_or_a_job():
    used = {key.partition(".")[0] for stage in STAGES.values() for key in stage.get("params", [])}
    assert set(params.read(ROOT / "params.yaml")) - used == {"watch", "probe", "canary", "drift", "profiles"}


def test_every_data_dependency_is_an_output_of_another_stage():
    def paths(kind):
        for stage in STAGES.values():
            for entry in stage.get(kind, []):
                yield entry if isinstance(entry, str) else next(iter(entry))

    written = set(paths("outs")) | {"${data.path}"}
    for dep in paths("deps"):
        if dep.startswith(DATA):
            assert any(dep == out or dep.startswith(f"{out}/") for out in written), dep


def test_publishing_is_never_restored_from_the_run_cache():
    assert all(out["reports/publish.json"]["cache"] is False for out in STAGES["publish"]["outs"])
