import json
import pickle

import numpy as np
import pytest

from buckler.detection.detector import Calibrated, Detector
from buckler.detection.threshold import threshold_at
from buckler.errors import ModelError
from buckler.models.forward import slices

WIDTH = slices()[-1].stop


def clouds(generator, count, shift=0.0):
    """Two classes' features: unit noise around -1 and +1 in the deepest block's first hundred channels."""
    labels = np.arange(count) % 2
    features = generator.normal(size=(count, WIDTH)).astype(np.float32)
    start = slices()[4].start
    features[:, start : start + 100] += (2 * labels - 1)[:, None] + shift
    return features, labels


@pytest.fixture(scope="module")
def detector():
    return Detector.fit(*clouds(np.random.default_rng(0), 400))


def test_what_lies_off_both_clouds_scores_higher_than_what_lies_in_either(detector):
    generator = np.random.default_rng(1)
    clean, moved = (detector.score(clouds(generator, 100, shift)[0]) for shift in (0.0, 6.0))
    assert np.quantile(clean, 0.95) < np.quantile(moved, 0.05)


def test_pictures_of_every_class_score_alike(detector):
    features, labels = clouds(np.random.default_rng(2), 400)
    scores = detector.score(features)
    assert abs(scores[labels == 0].mean() - scores[labels == 1].mean()) < 0.1 * scores.mean()


def test_a_class_of_one_picture_cannot_be_fitted():
    features, _ = clouds(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="at least 2 pictures a class"):
        Detector.fit(features, np.array([0, 0, 1]))


def test_a_saved_detector_scores_as_before(tmp_path, detector):
    features, _ = clouds(np.random.default_rng(3), 10)
    Calibrated(detector, 1.5, 0.05, 0.6).save(tmp_path)
    loaded = Calibrated.load(tmp_path)
    assert (loaded.threshold, loaded.max_fpr, loaded.min_confidence) == (1.5, 0.05, 0.6)
    np.testing.assert_array_equal(loaded.detector.score(features), detector.score(features))


def test_a_pickle_in_place_of_the_arrays_is_refused(tmp_path, detector):
    Calibrated(detector, 1.5, 0.05, 0.6).save(tmp_path)
    (tmp_path / "detector.npz").write_bytes(pickle.dumps({"offset": 1}))
    with pytest.raises(ModelError, match="does not hold a detector"):
        Calibrated.load(tmp_path)


def test_a_detector_of_another_schema_is_refused(tmp_path, detector):
    Calibrated(detector, 1.5, 0.05, 0.6).save(tmp_path)
    info = json.loads((tmp_path / "detector.json").read_text())
    (tmp_path / "detector.json").write_text(json.dumps({**info, "schema": 2}))
    with pytest.raises(ModelError, match="schema 1, got 2"):
        Calibrated.load(tmp_path)


@pytest.mark.parametrize("max_fpr", [0.01, 0.05, 0.2])
def test_threshold_flags_the_promised_share_of_fresh_clean_pictures(max_fpr):
    generator = np.random.default_rng(5)
    shares = []
    for _ in range(400):
        threshold = threshold_at(generator.normal(size=200), max_fpr)
        shares.append((generator.normal(size=200) > threshold).mean())
    assert 0.7 * max_fpr < np.mean(shares) <= 1.05 * max_fpr


def test_too_few_scores_for_so_small_a_share_are_refused():
    with pytest.raises(ValueError, match=r"50 clean scores cannot resolve max_fpr=0\.01; need at least 99"):
        threshold_at(np.zeros(50), 0.01)
