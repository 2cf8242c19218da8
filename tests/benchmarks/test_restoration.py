"""The tables of the restoration benchmark, from results known on paper."""

import numpy as np
import pytest

from benchmarks import restoration, restored_pictures
from benchmarks.restored_classifiers import CLEAN, FAULTS, Measured, split
from benchmarks.tables import markdown
from buckler.data import sources
from buckler.errors import DataError
from buckler.evaluation.statistics import wilson
from buckler.modality.picture.images import load_pixels, to_png
from buckler.modality.picture.restoration import table
from tests.forms import PICTURE


@pytest.fixture(scope="module")
def pictures():
    return np.stack([load_pixels(item.read()) for item in sources.generated(PICTURE, per_class=2, seed=5, size=48)])


@pytest.fixture
def measured():
    """Two classifiers for ten pictures: the plain one errs on the last, and on all with faults; the other never."""
    right = np.arange(10) < 9
    plain = {CLEAN: right, **dict.fromkeys(FAULTS, np.zeros(10, bool))}
    restored = {fault: np.ones(10, bool) for fault in plain}
    rates = {1: wilson(2, 10), 2: wilson(0, 10)}
    return {"none": Measured(plain, rates), "tv": Measured(restored, rates)}


def test_distances_of_a_known_difference(pictures):
    moved = np.clip(pictures, 0, 0.9) + np.float32(0.1)
    found = restored_pictures.distances(np.clip(pictures, 0, 0.9), moved)
    assert found["psnr"] == pytest.approx(20, abs=1e-3)
    assert found["mse"] == pytest.approx(0.01 * 255**2, rel=1e-4)
    assert 0.5 < found["ssim"] < 1


def test_unchanged_pictures_have_finite_distances(pictures):
    found = restored_pictures.distances(pictures, pictures)
    assert found == {"psnr": pytest.approx(61.9, abs=0.1), "ssim": pytest.approx(1), "mse": 0}


def test_every_fault_and_severity_has_a_row_and_every_step_a_column(pictures):
    steps = {name: table.find(name) for name in ("none", "wavelet")}
    tables = restored_pictures.tables(steps, pictures, seed=1)
    assert set(tables) == {"psnr", "ssim", "mse"}
    lines = markdown(tables["psnr"]).splitlines()
    assert lines[0] == "| PSNR in dB | severity | `none` | `wavelet` |"
    assert len(lines) == 2 + 1 + 4 * 5
    noisy = next(row for row in tables["psnr"].rows if row["fault"] == "noise" and row["severity"] == 4)
    assert noisy["wavelet"] > noisy["none"] + 3


def test_the_table_of_classifiers_has_rates(measured):
    malignant = np.arange(10) >= 5
    shown = markdown(restoration.classifier_table(measured, malignant))
    assert "| `none` | 90.0% (59.6% to 98.2%) | 80.0% (37.6% to 96.4%) | 0.0% | 20.0% (5.7% to 51.0%)" in shown
    assert "| `tv` | 100.0% (72.2% to 100.0%) | 100.0% (56.6% to 100.0%) | 100.0% |" in shown


def test_the_table_of_faults_shows_what_the_quality_check_leaves(measured):
    refused = {fault: np.arange(10) >= 8 for fault in (CLEAN, *FAULTS)} | {FAULTS[0]: np.ones(10, bool)}
    lines = markdown(restoration.fault_table(measured, refused)).splitlines()
    assert lines[2] == "| clean |  | 90.0% | 100.0% | 20.0% | 100.0% (67.6% to 100.0%) |"
    assert lines[3] == "| noise | 1 | 0.0% | 100.0% | 100.0% |  |"
    assert len(lines) == 3 + len(FAULTS)


def test_near_duplicates_stay_in_one_split(tmp_path):
    for item in sources.generated(PICTURE, per_class=12, seed=5, size=48):
        path = tmp_path / item.id
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(item.read())
    twin = load_pixels(tmp_path / "benign" / "00003.png")
    (tmp_path / "benign" / "twin.png").write_bytes(to_png(np.clip(twin * 0.9, 0, 1)))
    parts, names = split(tmp_path, per_class=0, seed=1)
    assert names == ("benign", "malignant")
    assert sum(len(part.paths) for part in parts.values()) == 25
    holders = [{path.name for path in part.paths if path.parent.name == "benign"} for part in parts.values()]
    assert any({"00003.png", "twin.png"} <= names for names in holders)
    for part in parts.values():
        assert [names[label] for label in part.labels] == [path.parent.name for path in part.paths]


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected at least two class folders"):
        split(tmp_path, per_class=0, seed=1)
