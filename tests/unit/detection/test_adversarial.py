"""The detector on generated features and logits: attacks move features slightly, or logits strongly."""

import numpy as np
import pytest

from buckler.detection.adversarial import AdversarialDetector
from buckler.models.forward import Forward

pytestmark = pytest.mark.slow

WIDTH = 2944  # as VGG-19's
MIDDLE, LAST = slice(896, 1920), slice(1920, WIDTH)
COLUMNS = {"read": np.arange(384, WIDTH), "probed": np.arange(384, 1920)}


def passes(generator, count, *, push=0.0, trace=0.0):
    """A pass whose logits depend on a middle feature; ``push`` shifts logits, ``trace`` features of the last block."""
    features = generator.normal(size=(count, WIDTH)).astype(np.float32)
    margin = 3 * features[:, MIDDLE.start] + generator.normal(scale=0.5, size=count)
    margin -= push * np.sign(margin)
    features[:, LAST.start : LAST.start + 20] += trace
    return Forward(np.stack([-margin, margin], axis=1).astype(np.float32) / 2, features)


@pytest.fixture(scope="module")
def detector():
    generator = np.random.default_rng(0)
    clean = passes(generator, 800)
    return AdversarialDetector.fit(clean, [clean], [passes(generator, 800, trace=1.0)], **COLUMNS)


def detected(clean, attacked):
    """Return the share of attacked scores above the 95 % quantile of the clean ones."""
    return (attacked > np.quantile(clean, 0.95)).mean()


def test_traces_like_the_fitted_ones_are_detected_on_new_pictures(detector):
    generator = np.random.default_rng(1)
    clean, attacked = detector.score(passes(generator, 500)), detector.score(passes(generator, 500, trace=1.0))
    assert detected(clean, attacked) > 0.5


def test_logits_far_from_the_prediction_are_detected_after_fitting_on_smaller_shifts():
    generator = np.random.default_rng(2)
    clean = passes(generator, 800)
    # Fitted on slightly shifted logits, as after one step; tested on far larger shifts.
    detector = AdversarialDetector.fit(clean, [clean], [passes(generator, 800, push=4.0)], **COLUMNS)
    fresh, attacked = (detector.score(passes(generator, 500, push=push)) for push in (0.0, 10.0))
    assert detected(fresh, attacked) > 0.95


def test_clean_pictures_of_both_answers_are_flagged_equally_often(detector):
    passed = passes(np.random.default_rng(3), 2000)
    flagged = detector.score(passed) > np.quantile(detector.score(passed), 0.95)
    answers = passed.logits.argmax(axis=1)
    assert abs(flagged[answers == 0].mean() - flagged[answers == 1].mean()) < 0.03


def test_levelled_scores_flag_both_answers_equally_often_although_one_class_has_traces(detector):
    def with_traces(seed):
        passed = passes(np.random.default_rng(seed), 2000)
        malignant = passed.logits.argmax(axis=1) == 1
        passed.features[malignant, LAST.start : LAST.start + 20] += 0.3
        return passed, malignant

    def gap(judge):
        fresh, malignant = with_traces(6)
        flagged = judge.score(fresh) > np.quantile(judge.score(fresh), 0.95)
        return flagged[malignant].mean() - flagged[~malignant].mean()

    assert gap(detector) > 0.05
    assert abs(gap(detector.levelled(with_traces(7)[0]))) < 0.025


def test_an_answer_with_few_clean_pictures_is_not_shifted(detector):
    passed = passes(np.random.default_rng(8), 400)
    malignant = passed.logits.argmax(axis=1) == 1
    few = np.flatnonzero(~malignant | (np.cumsum(malignant) <= 13))
    levelled = detector.levelled(Forward(passed.logits[few], passed.features[few]))
    assert levelled.bias[1] == detector.bias[1]
    assert levelled.bias[0] != detector.bias[0]


def test_a_score_does_not_depend_on_the_batch(detector):
    passed = passes(np.random.default_rng(4), 8)
    alone = detector.score(Forward(passed.logits[3:4], passed.features[3:4]))
    np.testing.assert_allclose(alone, detector.score(passed)[3:4], rtol=1e-5)


def test_seven_classes_have_seven_directions():
    generator = np.random.default_rng(5)

    def seven(count):
        features = generator.normal(size=(count, WIDTH)).astype(np.float32)
        return Forward(features[:, MIDDLE.start : MIDDLE.start + 7], features)

    clean, marked = seven(300), seven(300)
    marked.features[:, LAST.start : LAST.start + 20] += 2
    detector = AdversarialDetector.fit(clean, [clean], [marked], **COLUMNS)
    assert detector.directions.shape[0] == 7
    assert detected(detector.score(clean), detector.score(marked)) > 0.9


@pytest.mark.parametrize("count", [60, 300])
def test_the_weights_equal_those_of_a_direct_solution_with_few_and_with_many_rows(count):
    from sklearn.linear_model import LogisticRegression

    from buckler.detection.adversarial import INVERSE_PENALTY, _regress

    generator = np.random.default_rng(7)
    rows, truth = generator.normal(size=(count, 200)), np.arange(count) % 3 == 0
    weights, bias = _regress(rows, truth)
    direct = LogisticRegression(C=INVERSE_PENALTY, tol=1e-10, max_iter=10_000, class_weight="balanced").fit(rows, truth)
    np.testing.assert_allclose(weights, direct.coef_[0], atol=1e-6)
    np.testing.assert_allclose(bias, direct.intercept_, atol=1e-5)


def test_rounded_features_hardly_change_a_score():
    generator = np.random.default_rng(8)
    clean, attacked = passes(generator, 300), passes(generator, 300, trace=1.0)

    def rounded(passed):
        return Forward(passed.logits, passed.features.astype(np.float16).astype(np.float32))

    exact = AdversarialDetector.fit(clean, [clean], [attacked], **COLUMNS)
    other = AdversarialDetector.fit(rounded(clean), [rounded(clean)], [rounded(attacked)], **COLUMNS)
    np.testing.assert_allclose(other.score(clean), exact.score(clean), atol=0.05)


def test_fitting_without_attacked_pictures_is_an_error():
    clean = passes(np.random.default_rng(6), 10)
    with pytest.raises(ValueError, match="both attacked and unattacked"):
        AdversarialDetector.fit(clean, [clean], [], **COLUMNS)
