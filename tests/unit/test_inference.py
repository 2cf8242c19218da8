from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from buckler.detection.detector import Calibrated, Detector
from buckler.inference import Predictor
from buckler.models.info import ModelInfo
from buckler.signing import Verdict

INFO = ModelInfo(("benign", "malignant"), ("malignant",), 32, "sha256:0")


def verdict(days=1):
    now = datetime.now(UTC)
    return Verdict("sha256:1", "sha256:2", True, now - timedelta(days=9), now + timedelta(days=days), {})


@pytest.fixture(scope="module")
def detector(tiny_classifier, tiny_pictures):
    images, truth = tiny_pictures
    return Detector.fit(tiny_classifier.forward(images).features, truth)


def predictor(tiny_classifier, detector, *, threshold=1e9, min_confidence=0.0, days=1):
    calibrated = Calibrated(detector, threshold, 0.05, min_confidence)
    return Predictor(tiny_classifier, calibrated, INFO, verdict(days))


def test_answer_is_the_most_probable_class(tiny_classifier, detector, tiny_pictures):
    answer = predictor(tiny_classifier, detector)(tiny_pictures[0][0])
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.label == max(answer.probabilities, key=answer.probabilities.get)
    assert (answer.decision, answer.reasons, answer.verdict) == ("accept", (), "clean")


def test_score_above_the_threshold_goes_to_review_as_adversarial(tiny_classifier, detector, tiny_pictures):
    answer = predictor(tiny_classifier, detector, threshold=-1.0)(tiny_pictures[0][0])
    assert (answer.decision, answer.reasons, answer.verdict) == ("review", ("adversarial",), "adversarial")


def test_an_unsure_answer_goes_to_review(tiny_classifier, detector, tiny_pictures):
    answer = predictor(tiny_classifier, detector, min_confidence=1.01)(tiny_pictures[0][0])
    assert answer.reasons == ("low_confidence",)


def test_every_answer_goes_to_review_once_the_verdict_has_expired(tiny_classifier, detector, tiny_pictures):
    answer = predictor(tiny_classifier, detector, days=-1)(tiny_pictures[0][0])
    assert answer.reasons == ("model_degraded",)


def test_score_comes_from_the_features_of_the_same_picture(tiny_classifier, detector, tiny_pictures):
    picture = tiny_pictures[0][3]
    expected = detector.score(tiny_classifier.forward(picture[None]).features)[0]
    assert predictor(tiny_classifier, detector)(picture).score == pytest.approx(expected, rel=1e-5)


def test_warm_up_answers_without_a_picture(tiny_classifier, detector):
    predictor(tiny_classifier, detector).warm_up()
    assert np.isfinite(predictor(tiny_classifier, detector)(np.zeros((32, 32, 3), np.float32)).score)
