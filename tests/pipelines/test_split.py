import shutil
from dataclasses import replace

import pytest

from buckler import params
from buckler.data import expectations, manifest, pictures
from buckler.errors import DataError
from buckler.evaluation import reports
from buckler.evaluation.reports import SplitReport
from buckler.measurements.results import DataVersion
from buckler.measurements.split import PictureGroup
from buckler.release.policy import Policy
from pipelines import ingest, split, validate
from pipelines.settings import CalibrateParams, DataParams
from pipelines.stage import ROOT
from tests import datasets

CFG = split.SplitParams(test=0.3, calibration=0.1, near_duplicate_bits=10, near_duplicate_correlation=0.94, seed=7)
DATA = DataParams(
    "directory", "pictures", "picture", 0, datasets.SIZE, ("malignant",), 0.05, 7, {}, False, "lesion_id", "none"
)
STRICT = split.demands_of(
    DATA,
    params.load("calibrate", CalibrateParams, ROOT / "params.yaml"),
    params.load("gate", Policy, ROOT / "params.yaml"),
    attacked=0,
    seed=7,
)
NO_FLOORS = {
    "min_clean_accuracy": 0.0,
    "min_robust_accuracy": {},
    "min_malignant_recall": 0.0,
    "max_accepted_misses": 1.0,
    "min_robust_sensitivity": {},
    "min_robust_specificity": {},
    "min_class_records": 1,
}
CALIBRATED = replace(STRICT, policy=replace(STRICT.policy, **NO_FLOORS))
LENIENT = replace(CALIBRATED, max_fpr=0.9, min_sensitivity=0.1)


@pytest.fixture
def validated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    datasets.make_folder(tmp_path / "pictures", per_class=20)
    ingest.run(DATA)
    shutil.copyfile(ingest.MANIFEST, split.VALIDATED)
    return manifest.read(split.VALIDATED)


def written():
    return {name: manifest.read(split.OUT / f"{name}.csv") for name in pictures.SPLITS}


def where(name):
    return next(part for part, frame in written().items() if name in set(frame["id"]))


def test_the_splits_share_out_every_row(validated):
    split.run(CFG, DATA, LENIENT)
    parts = written()
    assert {name: len(frame) for name, frame in parts.items()} == {"train": 24, "calibration": 4, "test": 12}
    assert sorted(name for frame in parts.values() for name in frame["id"]) == list(validated["id"])
    report = reports.read(SplitReport, split.REPORTS)
    assert report.counts["benign"] == {"train": 12, "calibration": 2, "test": 6}
    assert report.data == DataVersion(manifest.version(validated), 40)


@pytest.mark.parametrize(
    ("demands", "message"),
    [
        (CALIBRATED, r"at least 59 calibration pictures of malignant for calibrate\.min_sensitivity 0\.95 .*, got 2$"),
        (CALIBRATED, r"at least 59 calibration pictures of benign \+ malignant for calibrate\.max_fpr .*, got 4$"),
        (STRICT, r"at least 111 test pictures of malignant for gate\.min_malignant_recall 0\.6 .*, got 6$"),
        (replace(LENIENT, attacked=5, policy=STRICT.policy), r"97 attacked test pictures of benign \+ .*, got 5$"),
        (STRICT, "one of these changes is enough: add about .* pictures of malignant"),
    ],
)
def test_too_few_pictures_to_calibrate_or_to_judge_are_refused_before_anything_is_written(validated, demands, message):
    with pytest.raises(DataError, match=f"(?m)^too few pictures: [^$]*{message}"):
        split.run(CFG, DATA, demands)
    assert not split.OUT.exists()
    assert not (split.REPORTS / SplitReport.FILE).exists()


def test_a_second_run_and_another_order_of_rows_write_the_same_files(validated):
    split.run(CFG, DATA, LENIENT)
    files = [*split.OUT.iterdir(), split.REPORTS / SplitReport.FILE]
    first = [file.read_bytes() for file in files]
    manifest.write(validated.iloc[::-1], split.VALIDATED)
    split.run(CFG, DATA, LENIENT)
    assert [file.read_bytes() for file in files] == first


def test_near_duplicates_and_pictures_of_one_lesion_stay_together_and_are_reported(validated):
    from PIL import Image

    paths = validated.set_index("id")["path"]
    with Image.open(paths["benign/4.png"]) as picture:
        picture.transpose(Image.Transpose.ROTATE_90).save(paths["malignant/9.png"])
    lesion = ["benign/1.png", "benign/2.png", "benign/3.png", "benign/5.png"]
    validated.loc[validated["id"].isin(lesion), "group"] = "L1"
    manifest.write(validated, split.VALIDATED)
    for seed in range(4):
        split.run(split.SplitParams(0.3, 0.1, 10, 0.94, seed), DATA, LENIENT)
        assert where("benign/4.png") == where("malignant/9.png")
        assert len({where(name) for name in lesion}) == 1
    report = reports.read(SplitReport, split.REPORTS)
    found = [row for row in report.near_duplicates if row.ids == ("benign/4.png", "malignant/9.png")]
    assert len(found) == 1
    assert not found[0].same_label
    assert PictureGroup(where("benign/1.png"), tuple(lesion)) in report.largest_groups


def test_the_error_for_a_missing_manifest_names_the_command_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no data/validated\.csv; run the stage that writes it"):
        split.run(CFG, DATA, LENIENT)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "per_class", "malignant"),
    [("skin", 640, ("malignant",)), ("ham7", 0, ("akiec", "bcc", "mel"))],
    ids=["skin", "ham7"],
)
def test_real_pictures_pass_with_the_parameters_of_the_project(
    real_data, tmp_path, monkeypatch, name, per_class, malignant
):
    limits = params.load("validate", expectations.ValidateParams, ROOT / "params.yaml")
    cfg = params.load("split", split.SplitParams, ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    data = DataParams(
        "directory", str(real_data / name), "picture", per_class, 64, malignant, 0.05, 7, {}, False, "lesion_id", "none"
    )
    ingest.run(data)
    validate.run(limits, data, {})
    # The seven classes have too few dangerous pictures for the floors of two.
    split.run(cfg, data, replace(STRICT if name == "skin" else CALIBRATED, dangerous=data.dangerous))
    report = reports.read(SplitReport, split.REPORTS)
    assert report.data.images == sum(sum(counts.values()) for counts in report.counts.values())
    for counts in report.counts.values():
        total = sum(counts.values())
        assert counts["test"] == pytest.approx(cfg.test * total, abs=2)
    assert report.near_duplicates or name != "skin"
    for pair in report.near_duplicates:
        assert len({where(one) for one in pair.ids}) == 1
