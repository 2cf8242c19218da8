import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks.signing import write_verdict
from buckler.detection.quality import QualityLimits
from buckler.detection.reasons import Reason
from buckler.models import checkpoint, export
from buckler.models.explanation import Explainer, HeadWeights
from buckler.models.info import ModelInfo
from buckler.models.runtime import RuntimeInfo
from buckler.serving.predictor import Predictor
from buckler.trust import keys
from buckler.trust.verdict import EVIDENCE_DIR, MODEL_DIR
from tests import screenings, verdicts

INFO = ModelInfo(("benign", "malignant"), ("malignant",), 32, "sha256:0", architecture="tiny")
# Its maps are the picture's channels, pooled to one place: red is relevant for benign, green for malignant.
EXPLAINER = Explainer(
    maps=lambda pixels: pixels[:2, :2],
    head=HeadWeights((np.array([[1, 0], [0, 1], [0, 0]], np.float32),), (np.zeros(2, np.float32),)),
)


def verdict(days=1):
    now = datetime.now(UTC)
    return verdicts.verdict(issued_at=now - timedelta(days=9), expires_at=now + timedelta(days=days))


@pytest.fixture(scope="module")
def screening(tiny_classifier, tiny_pictures):
    return screenings.fit(tiny_classifier, *tiny_pictures)


def predictor(tiny_classifier, screening, *, days=1, **lines):
    return Predictor(tiny_classifier, replace(screening, **lines), INFO, verdict(days), EXPLAINER)


def test_answer_is_the_most_probable_class(tiny_classifier, screening, tiny_pictures):
    answer = predictor(tiny_classifier, screening)(tiny_pictures[0][0])
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.label == max(answer.probabilities, key=answer.probabilities.get)
    assert (answer.decision, answer.reasons, answer.verdict) == ("accept", (), "clean")


def test_an_explanation_is_about_the_given_label(tiny_classifier, screening):
    pixels = np.zeros((32, 32, 3), np.float32)
    pixels[0, 1, 0], pixels[1, 0, 1] = 0.5, 0.25
    explain = predictor(tiny_classifier, screening).explain
    np.testing.assert_array_equal(explain(pixels, "benign"), [[0, 1], [0, 0]])
    np.testing.assert_array_equal(explain(pixels, "malignant"), [[0, 0], [1, 0]])


def test_score_above_the_threshold_goes_to_review_as_adversarial(tiny_classifier, screening, tiny_pictures):
    answer = predictor(tiny_classifier, screening, threshold=-1e9)(tiny_pictures[0][0])
    assert (answer.decision, answer.reasons, answer.verdict) == ("review", ("adversarial",), "adversarial")


def test_a_picture_far_from_all_classes_goes_to_review_as_out_of_distribution(
    tiny_classifier, screening, tiny_pictures
):
    answer = predictor(tiny_classifier, screening, strangeness=-1.0)(tiny_pictures[0][0])
    assert (answer.reasons, answer.verdict) == (("out_of_distribution",), "clean")


def test_a_picture_beyond_the_limits_goes_to_review_for_its_quality(tiny_classifier, screening, tiny_pictures):
    quality = QualityLimits.fit(tiny_pictures[0])
    asked = predictor(tiny_classifier, screening, quality=quality)
    assert asked(np.zeros((32, 32, 3), np.float32)).reasons == ("image_quality",)
    assert asked(tiny_pictures[0][0]).reasons == ()


def test_reasons_are_in_the_order_of_the_contract(tiny_classifier, screening, tiny_pictures):
    lines = {"threshold": -1e9, "strangeness": -1.0, "min_confidence": 1.01}
    answer = predictor(tiny_classifier, screening, days=-1, **lines)(tiny_pictures[0][0])
    assert answer.reasons == ("adversarial", "out_of_distribution", "low_confidence", "model_degraded")


def test_a_query_attack_adds_its_reason_and_leaves_the_detectors_verdict(tiny_classifier, screening, tiny_pictures):
    clean = predictor(tiny_classifier, screening)(tiny_pictures[0][0])
    suspect = clean.for_review(Reason.QUERY_ATTACK)
    assert suspect == replace(clean, decision="review", reasons=("query_attack",))
    flagged = predictor(tiny_classifier, screening, threshold=-1e9, min_confidence=1.01)(tiny_pictures[0][0])
    both = flagged.for_review(Reason.QUERY_ATTACK)
    assert both.reasons == ("adversarial", "query_attack", "low_confidence")
    assert both.for_review(Reason.QUERY_ATTACK) == both


def test_an_unsure_answer_goes_to_review(tiny_classifier, screening, tiny_pictures):
    answer = predictor(tiny_classifier, screening, min_confidence=1.01)(tiny_pictures[0][0])
    assert answer.reasons == ("low_confidence",)


def test_every_answer_goes_to_review_once_the_verdict_has_expired(tiny_classifier, screening, tiny_pictures):
    answer = predictor(tiny_classifier, screening, days=-1)(tiny_pictures[0][0])
    assert answer.reasons == ("model_degraded",)


def test_score_comes_from_the_features_of_the_same_picture(tiny_classifier, screening, tiny_pictures):
    picture = tiny_pictures[0][3]
    expected = screening.detector.score(tiny_classifier.forward(picture[None]))[0]
    assert predictor(tiny_classifier, screening)(picture).score == pytest.approx(expected, rel=1e-5)


def test_warm_up_answers_without_a_picture(tiny_classifier, screening):
    predictor(tiny_classifier, screening).warm_up()
    assert np.isfinite(predictor(tiny_classifier, screening)(np.zeros((32, 32, 3), np.float32)).score)


@pytest.fixture
def release(screening, tiny_network, tmp_path):
    """A release without an exported network, and a function that signs its current files."""
    keys.generate_key_pair(tmp_path / "keys")
    release = tmp_path / "release"
    checkpoint.save(tiny_network, INFO, release / MODEL_DIR)
    screening.save(release / MODEL_DIR)
    (release / EVIDENCE_DIR).mkdir()
    (release / EVIDENCE_DIR / "gate.json").write_text("{}")

    def sign():
        write_verdict(release, tmp_path / "keys")
        return keys.load_public_key(tmp_path / "keys" / keys.PUBLIC_KEY_FILE)

    return release, sign


def test_the_exported_network_answers_if_there_is_one_else_the_reference(release, tiny_network, tiny_pictures):
    directory, sign = release
    reference = Predictor.load(directory, sign())
    export.write(tiny_network, tiny_pictures[0], directory / MODEL_DIR)
    RuntimeInfo(("float32",), "test").save(directory / MODEL_DIR)
    exported = Predictor.load(directory, sign(), threads=1)
    assert (reference.precision, exported.precision) == ("float32", "float32")
    assert [type(predictor._network).__name__ for predictor in (reference, exported)] == ["Classifier", "Runtime"]
    answers = [predictor(tiny_pictures[0][0]) for predictor in (reference, exported)]
    assert answers[0].probabilities == pytest.approx(answers[1].probabilities, abs=1e-4)
    assert answers[0].score == pytest.approx(answers[1].score, rel=1e-2)


def test_without_exported_network_and_tensorflow_the_error_names_what_to_install(release, tmp_path):
    directory, sign = release
    sign()
    code = (
        "import sys; sys.modules['keras'] = sys.modules['tensorflow'] = None\n"
        "from pathlib import Path\nfrom buckler.trust import keys\nfrom buckler.serving.predictor import Predictor\n"
        f"Predictor.load(Path({str(directory)!r}), keys.load_public_key(Path({str(tmp_path / 'keys')!r}) / "
        "keys.PUBLIC_KEY_FILE))"
    )
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "install the extra `cpu`, or build the release again" in failed.stderr
