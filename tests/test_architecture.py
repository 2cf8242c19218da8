"""The import contracts hold, and importing does no work."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    "tensorflow",
    "keras",
    "openvino",
    "nncf",
    "mlflow",
    "bentoml",
    "dvc",
    "great_expectations",
    "sklearn",
    "scipy",
    "matplotlib",
    "pandas",
    "apscheduler",
    "pkcs11",
)


def loaded_by(module: str, packages: tuple[str, ...] = HEAVY) -> set[str]:
    """Return which of ``packages`` a fresh interpreter has loaded after importing ``module``."""
    code = f"import sys, {module}; print(*(name for name in {packages!r} if name in sys.modules))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return set(result.stdout.split())


def test_the_import_contracts_hold():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout
    assert " 0 broken." in result.stdout


@pytest.mark.parametrize(
    "module",
    ["buckler", "buckler.errors", "buckler.params", "buckler.trust.verdict", "buckler.watch", "buckler.cli"],
)
def test_importing_common_modules_loads_nothing_heavy(module: str):
    assert loaded_by(module) == set()


def test_the_stage_that_draws_the_reports_loads_no_tensorflow():
    assert loaded_by("pipelines.report", ("tensorflow", "jinja2")) == {"jinja2"}


def test_importing_the_service_loads_neither_model_nor_registry_nor_database():
    assert loaded_by("services.classifier.service", (*HEAVY, "sqlalchemy")) == {"bentoml"}


def test_the_command_of_the_service_sets_variables_before_their_readers_are_loaded():
    assert loaded_by("services.classifier.__main__", (*HEAVY, "numpy")) == set()


@pytest.mark.parametrize("module", ["buckler.serving.predictor", "buckler.watch.jobs.canary"])
def test_the_predictor_and_the_job_of_every_minute_load_one_engine(module: str):
    assert loaded_by(module) == {"openvino"}


def test_importing_the_package_makes_no_folder(tmp_path: Path):
    code = "import buckler, buckler.trust.verdict, buckler.params, services.classifier.settings"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=120, check=True)
    assert list(tmp_path.iterdir()) == []


MUTATORS = {"append", "add", "update", "extend", "pop", "clear", "setdefault", "remove", "insert", "discard", "put"}


def mutations(tree: ast.AST) -> Iterator[str]:
    """Yield the statements by which frozen dataclasses in ``tree`` change themselves after they were made."""
    for found in ast.walk(tree):
        if isinstance(found, ast.ClassDef) and any("frozen=True" in ast.unparse(each) for each in found.decorator_list):
            methods = [each for each in found.body if getattr(each, "name", "__post_init__") != "__post_init__"]
            yield from (
                f"{found.name}: {ast.unparse(node)}" for each in methods for node in ast.walk(each) if mutates(node)
            )


def mutates(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        return any(ast.unparse(target).startswith("self.") for target in targets)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    changed, method = ast.unparse(node.func.value), node.func.attr
    return (changed, method) == ("object", "__setattr__") or (changed.startswith("self.") and method in MUTATORS)


@pytest.mark.parametrize(
    "body",
    ["self.kept.append(1)", "self.kept[0] = 1", "object.__setattr__(self, 'kept', [])", "del self.kept[0]"],
)
def test_a_mutation_behind_a_frozen_face_is_found(body: str):
    tree = ast.parse(f"@dataclass(frozen=True)\nclass A:\n    def change(self):\n        {body}")
    assert len(list(mutations(tree))) == 1


def test_no_object_mutates_behind_a_frozen_face():
    folders = ("benchmarks", "drills", "pipelines", "services", "src")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    found = [line for file in files for line in mutations(ast.parse(file.read_text(encoding="utf-8")))]
    assert found == []
