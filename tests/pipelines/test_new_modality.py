"""A new modality is one folder: curves of a spirometer pass through the pipeline, the gate and the service."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from tests.pipelines.checkout import PARTS, ROOT, Checkout, served

pytestmark = pytest.mark.slow

SPIROMETER = '''
"""Flow of a forced expiration: a spirometer's curve, of healthy people or of people with obstructed airways."""

import numpy as np

from buckler.modality.base import RadiusUnit
from buckler.modality.records import Channel, NumberRecords


class Spirometer(NumberRecords):
    """Litres a second over six seconds."""

    name = "spirometer"
    one, many = "curve", "curves"
    channels = (Channel("flow", 0.0, 14.0, "l/s"),)
    unit = RadiusUnit(100, " % of the range", 1400)  # the instrument's step is 0.01 l/s
    labels = ("healthy", "obstructed")

    def generate(self, label, index, seed, size):
        rng = np.random.default_rng([seed, index, self.labels.index(label)])
        time = np.linspace(0, 6, size)
        decay = rng.normal(1.6, 0.12) if label == "healthy" else rng.normal(0.75, 0.12)
        curve = rng.normal(8, 0.8) * (1 - np.exp(-12 * time)) * np.exp(-decay * time)
        values = (curve + rng.normal(0, 0.05, size)) / 14
        return self.unit.values_of(self.unit.steps_of(np.clip(values, 0, 1)))[:, None]


MODALITY = Spirometer()
'''
NUMBERS = 64


def radii(*numbers: int) -> list[str]:
    return [f"{number} % of the range" for number in numbers]


# Every radius that the pipeline reads, in the unit of the modality.
RADII = {
    "harden.radius": radii(1)[0],
    "export.radii": radii(1),
    "attack.suite": [
        {"attack": "fgsm", "radii": radii(1, 2)},
        {"attack": "pgd", "radii": radii(1, 2), "steps": 20},
        {"attack": "noise", "radii": radii(2)},
    ],
    "calibrate.radii": radii(1, 2, 4),
    "detect.suite": [{"attack": "fgsm", "radii": radii(2, 8)}],
    "detect.evasion": {"records": 6, "radii": radii(2), "steps": 3, "objectives": ["joint", "selective"]},
    "gate.min_robust_accuracy": {radii(1)[0]: 0.0},
}
FOLDER = Path("src/buckler/modality/spirometer")


def files(root: Path) -> dict[str, str]:
    """Return the digests of the project's files in ``root``, without what is compiled."""
    found = [
        path for part in PARTS for path in ([root / part] if (root / part).is_file() else (root / part).rglob("*"))
    ]
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)
    }


@pytest.fixture(scope="module")
def project(module_tmp_path: Path) -> Checkout:
    """A project with one more folder, after `dvc repro`."""
    made = Checkout(
        module_tmp_path / "project",
        **{
            "data.modality": "spirometer",
            "data.image_size": NUMBERS,
            "data.malignant": ["obstructed"],
            "data.per_class": 130,
            "train.network": "conv1d",
            "train.epochs": 12,
            "gate.min_clean_accuracy": 0.8,
            "publish.model_name": "airways",
            **RADII,
        },
    )
    (made.root / FOLDER).mkdir()
    (made.root / FOLDER / "__init__.py").touch()
    (made.root / FOLDER / "modality.py").write_text(SPIROMETER)
    result = made("dvc", "repro")
    assert result.returncode == 0, result.stdout + result.stderr
    return made


def test_no_other_file_than_the_settings_changed(project: Checkout):
    before, after = files(ROOT), files(project.root)
    added = {name for name in after.keys() - before.keys() if not name.startswith("data/")}
    assert added == {(FOLDER / name).as_posix() for name in ("__init__.py", "modality.py")}
    assert {name for name in before.keys() & after.keys() if before[name] != after[name]} == {"params.yaml"}


def test_the_gate_judges_it_by_the_same_evidence(project: Checkout):
    assert project.report("gate.json")["passed"], project.report("gate.json")["reasons"]
    robustness, detector = project.report("robustness.json"), project.report("detector.json")
    assert {cell["attack"] for cell in robustness["cells"]} == {"fgsm", "pgd", "noise"}
    (survives,) = [check for check in robustness["checks"] if check["kind"] == "file"]
    assert survives["passed"], survives
    assert "curves, written as files and read" in survives["detail"]
    assert {row["kind"] for row in detector["foreign"]} == {"noise", "flat", "square"}
    model = json.loads((project.root / "models/classifier/model.json").read_text())
    assert (model["modality"], model["shape"]) == ("spirometer", [NUMBERS, 1])


def test_every_radius_has_the_unit_of_the_modality(project: Checkout):
    cells = project.report("robustness.json")["cells"]
    assert {cell["radius"] for cell in cells} == {"1 % of the range", "2 % of the range"}
    assert "1 % of the range" in (project.root / "reports/robustness.html").read_text()
    assert "1/255" not in (project.root / "reports/robustness.html").read_text()


def test_the_service_answers_a_curve_and_names_what_is_wrong_with_a_bad_one(project: Checkout):
    promoted = project("buckler", "promote")
    assert promoted.returncode == 0, promoted.stderr
    curve = next((project.root / "data/images/obstructed").glob("*.json")).read_bytes()
    with served(project) as url:
        answer = httpx.post(f"{url}/predict", content=curve, headers={"content-type": "application/json"}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["label"] == "obstructed"
        assert set(answer.json()["probabilities"]) == {"healthy", "obstructed"}
        card = httpx.get(f"{url}/model", timeout=60).json()["model"]
        assert (card["modality"], card["record_schema"]["required"]) == ("spirometer", ["flow"])
        tensor = httpx.get(f"{url}/v2/models/airways", timeout=60).json()["inputs"][0]
        assert tensor["shape"] == [-1, NUMBERS, 1]
        form = httpx.post(f"{url}/predict", files={"image": ("curve.json", curve)}, timeout=60)
        assert form.json()["probabilities"] == answer.json()["probabilities"]
        explained = httpx.post(
            f"{url}/explain",
            content=curve,
            headers={"content-type": "application/json", "accept": "image/png"},
            timeout=60,
        )
        assert explained.status_code == 200
        assert explained.content.startswith(b"\x89PNG")
        numbers = json.loads(curve)["flow"]
        for wrong, message in (
            ({"flow": [*numbers[:3], 99.0, *numbers[4:]]}, "expected 'flow' of 0 to 14 l/s, number 4 is outside"),
            ({"flow": numbers[:-1]}, f"expected {NUMBERS} numbers in each channel, got {NUMBERS - 1}"),
            ({"volume": numbers}, "expected the channels ['flow']; the curve misses ['flow'] and has 1 others"),
        ):
            refused = httpx.post(f"{url}/predict", json=wrong, timeout=60)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "record_invalid")
            assert message in refused.json()["error"]["message"]
