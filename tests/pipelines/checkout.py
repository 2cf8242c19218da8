"""A copy of the project in a temporary directory, with settings that finish in minutes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.servers import free_port
from buckler import params
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PARTS = (
    "src",
    "pipelines",
    "services",
    "benchmarks",
    "infra",
    "monitoring",
    "dvc.yaml",
    "params.yaml",
    "requirements.lock",
    ".dvcignore",
    "data/incoming",
)
# As small as the stages allow: the tests are about the stages, not about the model.
SMALL = {
    "data.per_class": 50,
    "data.image_size": 32,
    "validate.min_side": 32,
    "split.test": 0.3,
    "split.calibration": 0.2,
    "features.copies": 1,
    "train.epochs": 4,
    "export.records": 24,
    "export.radii": ["1/255"],
    "export.steps": 2,
    "attack.suite": [
        {"attack": "fgsm", "radii": ["1/255", "2/255"]},
        {"attack": "pgd", "radii": ["1/255", "2/255"], "steps": 20},
        {"attack": "noise", "radii": ["2/255"]},
    ],
    "calibrate.max_fpr": 0.2,
    "calibrate.min_sensitivity": 0.6,
    "calibrate.records": 30,
    "detect.strangers": 5,
    "detect.suite": [{"attack": "fgsm", "radii": ["2/255", "8/255"]}],
    "detect.evasion": {"records": 6, "radii": ["2/255"], "steps": 3, "objectives": ["joint", "selective"]},
    "watch.records": 10,
    "watch.suite": [{"attack": "fgsm", "radii": ["1/255", "4/255"]}],
}
# So small a model meets no floor; the gate's own tests cover the floors.
NO_FLOORS = {
    "gate.min_clean_accuracy": 0.0,
    "gate.min_robust_accuracy": {"1/255": 0.0},
    "gate.min_malignant_recall": 0.0,
    "gate.min_robust_sensitivity": {},
    "gate.min_robust_specificity": {},
    "gate.min_subgroup_clean_accuracy": 0.0,
    "gate.min_subgroup_robust_accuracy": {},
    "gate.max_calibration_error": 1.0,
    "gate.max_accepted_misses": 1.0,
    "gate.max_detector_fpr": 1.0,
    "gate.max_detector_subgroup_fpr": 1.0,
    "gate.min_class_records": 1,
}


class Checkout:
    """A copy of the project with its own state, driven through its commands."""

    def __init__(self, root, **settings):
        self.root, self.settings = root, {**SMALL, **NO_FLOORS, "watch.port": free_port(), **settings}
        for part in PARTS:
            source, target = ROOT / part, root / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, target)
        self.set()
        assert self("dvc", "init", "--no-scm", "--quiet").returncode == 0

    def __call__(self, *command, **variables):
        return subprocess.run(
            [BIN / command[0], *command[1:]],
            cwd=self.root,
            env=self._environment(variables),
            capture_output=True,
            text=True,
            timeout=1500,  # VGG-19 on a busy machine
        )

    def started(self, *command, **variables):
        """Return a process that runs, with its output in one pipe."""
        return subprocess.Popen(
            [BIN / command[0], *command[1:]],
            cwd=self.root,
            env=self._environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _environment(self, variables):
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("BUCKLER_", "MLFLOW_"))
        }
        return environment | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.root / 'src'}{os.pathsep}{self.root}",
            "DVC_NO_ANALYTICS": "1",
            **variables,
        }

    def report(self, name):
        return json.loads((self.root / "reports" / name).read_text())

    def set(self, **settings):
        """Write params.yaml with the settings of this copy, changed by ``settings`` until the next call."""
        params.apply_profile("demo", {**self.settings, **settings}, self.root / "params.yaml")


@contextmanager
def served(project: Checkout) -> Iterator[str]:
    """Yield the address of the service of ``project``, which runs until the context ends."""
    names = ("MLFLOW", "SERVICE", "WATCH", "CONSOLE", "PROMETHEUS", "ALERTMANAGER")
    ports = {f"BUCKLER_{name}_PORT": str(free_port()) for name in names}
    try:
        started = project("python", "-m", "infra.local", "up", **ports)
        assert started.returncode == 0, started.stdout + started.stderr
        url = f"http://127.0.0.1:{ports['BUCKLER_SERVICE_PORT']}"
        wait_for(lambda: httpx.get(f"{url}/readyz", timeout=10).status_code == 200, 120)
        yield url
    finally:
        project("python", "-m", "infra.local", "down", **ports)
