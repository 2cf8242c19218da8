"""Folders whose table defines the classes, from ingest to the splits: drawn ones, and real ones with their profiles."""

import json

import pytest

from buckler import params
from buckler.data import manifest
from buckler.evaluation import reports
from buckler.evaluation.reports import SplitReport
from pipelines import check, ingest, preflight, split, validate
from pipelines.stage import ROOT
from tests import datasets
from tests.pipelines.test_check import FREE

CLASSES = {"well": {"label": ["benign"]}, "ill": {"grade": [2, 3]}}
SETTINGS = {"data.classes": CLASSES, "data.group": "patient", "data.malignant": ["ill"]}


@pytest.fixture
def folder(tmp_path):
    """Pictures in one folder; each patient has one of both classes, and every fifth picture has none."""
    folder = tmp_path / "pictures"
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(60):
        for label, grade in (("benign", 0), ("malignant", 1 if index % 5 == 0 else 2 + index % 2)):
            name = f"images/{label}{index}.png"
            (folder / name).write_bytes(datasets.png(label, 1000 * (label == "benign") + index))
            rows.append(f"{name},{label},{grade},P{index},{20 + index}")
    (folder / "labels.csv").write_text("\n".join(["file,label,grade,patient,age", *rows]) + "\n")
    return folder


def settings(folder, **changes):
    source = {"data.source": "directory", "data.path": str(folder)}
    return preflight.parse(params.with_profile(None, FREE | changes | source, ROOT / "params.yaml"))


def run(cfg):
    ingest.run(cfg.data)
    validate.run(cfg.validate, cfg.data, cfg.attack.subgroups)
    split.run(cfg.split, cfg.data, check._demands(cfg))
    return {name: manifest.read(split.OUT / f"{name}.csv") for name in ("train", "calibration", "test")}


def check_groups_stay_together(splits):
    found = {name: set(frame["group"]) - {""} for name, frame in splits.items()}
    assert all(found.values())
    for one in found:
        for other in found:
            assert one == other or not found[one] & found[other]


def test_patients_with_pictures_of_both_classes_stay_in_one_split(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    splits = run(settings(folder, **SETTINGS, **{"attack.subgroups": {"age": [40]}}))
    assert "12 of none of the classes (data.classes)" in capsys.readouterr().out
    check_groups_stay_together(splits)
    counts = reports.read(SplitReport, split.REPORTS).counts
    assert {label: sum(parts.values()) for label, parts in counts.items()} == {"ill": 48, "well": 60}


def test_the_check_says_what_the_stages_do(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    found = check.run(folder, None, FREE | SETTINGS, timed=False)
    assert found.fits, found.refusals
    monkeypatch.chdir(tmp_path)
    run(settings(folder, **SETTINGS))
    counts = json.loads((tmp_path / "reports/split.json").read_text())["counts"]
    assert counts == {
        row.label: {"train": row.train, "calibration": row.calibration, "test": row.test} for row in found.classes
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.classes": {}}, "or define the classes by columns of labels.csv in data.classes"),
        (
            {"data.group": "patient_id"},
            "['patient_id'] are missing; it has ['file', 'label', 'grade', 'patient'",
        ),
        ({"data.classes": {"a": {"grade": [7]}, "ill": {"grade": [2]}}}, "got [7]; it has '0' (60)"),
        ({"data.malignant": ["malignant"]}, "data.malignant: expected labels of data.classes, ['well', 'ill']"),
        ({"validate.labels": ["well"]}, "data.classes: expected labels of validate.labels, ['well'], got ['ill']"),
    ],
)
def test_common_mistakes_are_refused_with_what_there_is(folder, monkeypatch, change, message):
    monkeypatch.chdir(ROOT)
    refusals = check.run(folder, None, FREE | SETTINGS | change, timed=False).refusals
    assert any(message in line for line in refusals), refusals


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("profile", "classes", "printed"),
    [
        (
            "retina",
            {"normal": 376, "referable": 291},
            ("395 of none of the classes", "labels.csv: 1062 rows, 0 rows without a picture", "groups (patient_id)"),
        ),
        (
            "dental",
            {"calculus": 24, "caries": 112, "discoloration": 90, "gingivitis": 104, "hypodontia": 75, "ulcer": 113},
            ("518 used", "labels.csv: 518 rows, 0 rows without a picture", "no column groups them"),
        ),
    ],
)
def test_real_sets_pass_with_their_profiles(real_data, tmp_path, monkeypatch, capsys, profile, classes, printed):
    source = {"data.path": str(real_data / profile)}
    cfg = preflight.parse(params.with_profile(profile, source, ROOT / "params.yaml"))
    monkeypatch.chdir(tmp_path)
    splits = run(cfg)
    said = capsys.readouterr().out
    assert all(text in said for text in printed), said
    report = reports.read(SplitReport, split.REPORTS)
    assert {label: sum(parts.values()) for label, parts in report.counts.items()} == classes
    assert report.groups.largest <= 4  # a chain of look-alikes would fill a split
    if cfg.data.group:
        check_groups_stay_together(splits)
        assert sum(len(set(frame["group"])) for frame in splits.values()) == 623
