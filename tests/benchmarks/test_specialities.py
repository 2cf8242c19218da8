"""The benchmark of specialities, on drawn eyes of invented patients."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks import results, specialities, speciality_folds, speciality_tasks
from benchmarks.base_features import features_of
from benchmarks.speciality_tasks import HELD_OUT, REFERABLE_TASK, TASKS, Records
from benchmarks.tables import markdown
from buckler.errors import DataError
from buckler.models.forward import probabilities
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.training.loop import Schedule, train_head

pytestmark = pytest.mark.slow

GRADES = {"normal": [0], "dr": [1, 2, 3], "hypertensive": [0], "cataract": [0]}


@pytest.fixture
def data(tmp_path):
    """Folder ``retina`` with two eyes of each patient; the signs of disease are bright."""
    generator, rows = np.random.default_rng(0), []
    (tmp_path / "retina/images").mkdir(parents=True)
    for patient in range(48):
        label = list(GRADES)[patient % 4]
        grade = GRADES[label][patient // 4 % len(GRADES[label])]
        for eye in ("left", "right"):
            name = f"images/{patient}_{eye}.png"
            pixels = generator.integers(60, 120 if label == "normal" else 250, (32, 32, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "retina" / name)
            rows.append((name, patient, label, grade, 40 + patient % 30, ("Female", "Male")[patient // 4 % 2]))
    frame = pd.DataFrame(rows, columns=["file", "patient_id", "label", "dr_grade", "age", "sex"])
    frame.to_csv(tmp_path / "retina/labels.csv", index=False)
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(speciality_folds, "SCHEDULE", Schedule(2, 16, 1e-2, 7))
    monkeypatch.setattr(speciality_folds, "WEIGHT_DECAYS", (0.1,))
    monkeypatch.setattr(speciality_folds, "RESAMPLES", 50)
    monkeypatch.setattr(specialities, "SIZE", 32)
    monkeypatch.setattr(specialities, "TASKS", (REFERABLE_TASK,))


def test_tasks_have_the_classes_that_their_titles_name(data):
    frame = speciality_tasks.table_of(data, "retina")
    assert set(frame["label"]) == {"normal", "dr", "hypertensive"}
    found = {task.name: speciality_tasks.records_of(task, frame) for task in TASKS[:3]}
    for name, grades in {"referable": {2, 3}, "severe": {3}}.items():
        records = found[name]
        ill = frame.iloc[records.rows[records.truth == 1]]
        assert set(ill["dr_grade"]) == grades
        assert set(frame.iloc[records.rows[records.truth == 0]]["label"]) == {"normal"}
    mild = frame.iloc[found["referable"].rows[found["referable"].truth == HELD_OUT]]
    assert set(mild["dr_grade"]) == {1}
    ill = found["hypertensive"].rows[found["hypertensive"].truth == 1]
    assert set(frame.iloc[ill]["label"]) == {"hypertensive"}


def test_a_table_without_a_column_is_rejected(tmp_path):
    (tmp_path / "dental").mkdir()
    (tmp_path / "dental/labels.csv").write_text("file\na.png\n")
    with pytest.raises(DataError, match=r"labels\.csv: expected the columns file, label, got none called label"):
        speciality_tasks.table_of(tmp_path, "dental")
    with pytest.raises(DataError, match="expected a table of pictures in"):
        speciality_tasks.table_of(tmp_path, "retina")


def test_an_interval_widens_if_the_eyes_of_a_patient_count_as_one():
    generator = np.random.default_rng(0)
    truth = np.repeat(generator.integers(0, 2, 60), 2)
    logits = np.zeros((120, 2), np.float32)
    logits[:, 1] = np.repeat(truth[::2] + generator.normal(size=60), 2)
    pairs = Records(np.arange(120), truth, np.repeat(np.arange(60), 2).astype(str))
    singles = Records(np.arange(120), truth, np.arange(120).astype(str))
    widths = []
    for records in (pairs, singles):
        found = speciality_folds.estimate_of(REFERABLE_TASK, logits, records, 7)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[0] > 1.2 * widths[1]


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_has_the_minimum_of_the_head_that_it_stands_for(classes):
    generator = np.random.default_rng(0)
    truth = np.arange(150) % classes
    features = generator.normal(size=(150, 8)).astype(np.float32)
    features[np.arange(150), truth] += 1.5
    shape = HeadShape((), 0.0, 0.05, standardised=True)
    schedule = Schedule(epochs=150, batch_size=150, learning_rate=5e-2, seed=1)
    known = (features[:1], truth[:1])
    head, _ = train_head(features[None], truth, known, classes=classes, head=shape, schedule=schedule)
    scaled = StandardScaler().fit_transform(features)
    model = LogisticRegression(C=speciality_folds.inverse_penalty(0.05, truth)).fit(scaled, truth)
    found = probabilities(np.asarray(head(features)))
    np.testing.assert_allclose(found, model.predict_proba(scaled), atol=0.02)


def test_ages_that_the_features_contain_are_found_and_others_are_not():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 10)).astype(np.float32)
    told, by_mean = speciality_folds.age_errors(features, 50 + 9 * features[:, 0].astype(float), 7)
    assert told < 0.3 * by_mean
    untold, by_mean = speciality_folds.age_errors(features, generator.normal(50, 9, 200), 7)
    assert untold > 0.9 * by_mean


def test_features_are_computed_once(data, tmp_path, monkeypatch):
    pictures = sorted((data / "retina/images").glob("*.png"))[:20]

    def features():
        return features_of(TINY, "none", pictures, size=32, seed=7, kept=tmp_path / "kept")

    first = features()
    assert first.shape == (20, 64)
    monkeypatch.setattr("benchmarks.base_features.Classifier", None)
    np.testing.assert_array_equal(features(), first)


def test_the_tables_are_written_and_no_patient_is_in_two_folds(data, tmp_path, quick, monkeypatch, capsys):
    seen = []

    def remembered(task, features, records, seed):
        scored = cross_validate(task, features, records, seed)
        seen.append((records, scored))
        return scored

    cross_validate = speciality_folds.cross_validate
    monkeypatch.setattr(speciality_folds, "cross_validate", remembered)
    options = specialities.Options(data, "none", tmp_path / "kept", attacked=5, seed=7)
    specialities.run(options, tmp_path)
    written = results.read(tmp_path / "specialities.json")
    assert set(written.tables) == {"tasks", "folds", "mild", "attacked", "other"}
    assert markdown(written.tables["attacked"]) in capsys.readouterr().out
    (mild,), (attacked,) = written.tables["mild"].rows, written.tables["attacked"].rows
    assert (mild["eyes"], attacked["pictures"]) == (8, 5)
    records, scored = seen[0]
    folds = [set(records.groups[fold.test]) for fold in scored.folds]
    assert sum(map(len, folds)) == len(set.union(*folds)) == len(set(records.groups))
