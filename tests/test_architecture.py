"""The import contracts hold, and importing does no work."""

import subprocess
import sys
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
