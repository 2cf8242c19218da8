"""DVC does not follow imports: these tests do, and fail where a stage would not notice a change."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

from buckler import params

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Not imported, but their content decides what a stage writes.
DATA = ("data/", "models/", "reports/", "${", ".dvc")


def module_file(name):
    for base in (ROOT / "src", ROOT):
        path = base / Path(*name.split("."))
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    return None


@cache
def imports_of(file):
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {
            path for name in names if name.split(".")[0] in ("buckler", "pipelines") and (path := module_file(name))
        }
    return frozenset(found)


def closure(file):
    seen, todo = set(), {file}
    while todo:
        here = todo.pop()
        seen.add(here)
        todo |= imports_of(here) - seen
    # Package markers without code decide nothing.
    return {
        path.relative_to(ROOT).as_posix() for path in seen if path.read_text().strip() and path.name != "__init__.py"
    }


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies_are_exactly_what_the_stage_imports(name):
    declared = {dep for dep in STAGES[name]["deps"] if not dep.startswith(DATA)}
    assert declared == closure(ROOT / f"pipelines/{name}.py")


def test_every_stage_has_a_module_of_its_name_and_runs_it():
    for name, stage in STAGES.items():
        assert stage["cmd"] == f"python -m pipelines.{name}"
        assert stage["desc"]


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


def test_what_one_stage_reads_of_data_another_writes():
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
