import numpy as np
import pytest
from scipy.stats import beta

from buckler.detection.danger import danger_limit, dangerous_needed, harmless_scores
from buckler.models.forward import probabilities


@pytest.mark.parametrize(
    ("misses", "needed"), [(0, 59), (1, 93), (2, 124), (3, 153), (4, 181)]
)  # the sample sizes of Wilks's tolerance limits for 95 % with 95 % confidence
def test_the_number_of_dangerous_records_needed_for_each_number_of_misses(misses, needed):
    assert dangerous_needed(0.95, 0.95, misses=misses) == needed


@pytest.mark.parametrize(
    ("min_sensitivity", "confidence", "needed"), [(0.9, 0.95, 29), (0.99, 0.95, 299), (0.95, 0.8, 32), (0.5, 0.5, 1)]
)
def test_the_number_of_dangerous_records_needed_for_other_demands(min_sensitivity, confidence, needed):
    assert dangerous_needed(min_sensitivity, confidence) == needed


@pytest.mark.parametrize("count", [59, 92, 93, 124, 200, 1000])
def test_the_lower_bound_of_clopper_and_pearson_is_at_least_the_sensitivity_and_one_more_miss_breaks_it(count):
    scores = np.arange(count) / (2 * count)
    limit = danger_limit(scores, 0.95, 0.95)
    missed = int((scores <= limit).sum())
    lower = [beta.ppf(0.05, count - misses, misses + 1) for misses in (missed, missed + 1)]
    assert lower[0] >= 0.95 > lower[1]


def test_too_few_dangerous_records_set_no_limit():
    assert danger_limit(np.full(58, np.inf), 0.95, 0.95) is None
    assert danger_limit(np.zeros(0), 0.95, 0.95) is None
    assert danger_limit(np.full(59, np.inf), 0.95, 0.95) == 1.0


def test_the_limit_is_the_highest_that_misses_no_more_than_allowed():
    scores = np.r_[0.1, 0.2, 0.3, np.full(90, np.inf)]  # 93 records: one may be missed
    limit = danger_limit(np.random.default_rng(0).permutation(scores), 0.95, 0.95)
    assert 0.1 <= limit < 0.2
    assert np.nextafter(limit, 1) == 0.2


def test_equal_scores_are_missed_together_or_not_at_all():
    scores = np.r_[np.full(3, 0.2), np.full(121, np.inf)]  # 124 records: two may be missed, three are equal
    assert (scores <= danger_limit(scores, 0.95, 0.95)).sum() == 0


def test_records_without_any_danger_in_their_probabilities_leave_only_a_limit_below_zero():
    assert danger_limit(np.zeros(59), 0.95, 0.95) < 0


@pytest.mark.parametrize(
    ("count", "min_sensitivity", "confidence"), [(59, 0.95, 0.95), (131, 0.95, 0.95), (60, 0.9, 0.8)]
)
def test_the_sensitivity_is_kept_with_the_stated_confidence(count, min_sensitivity, confidence):
    generator = np.random.default_rng(3)
    fresh = np.sort(generator.normal(size=200_000))
    limits = [danger_limit(generator.normal(size=count), min_sensitivity, confidence) for _ in range(1000)]
    kept = 1 - np.searchsorted(fresh, limits, side="right") / len(fresh) >= min_sensitivity
    assert confidence - 0.02 <= kept.mean() <= confidence + 0.06


def test_several_dangerous_labels_add_up_and_a_dangerous_label_is_never_harmless():
    shares = np.array([[0.4, 0.3, 0.3], [0.2, 0.5, 0.3], [0.9, 0.1, 0.0]], np.float32)
    scores = harmless_scores(np.log(shares + 1e-9), shares, [1, 2])
    np.testing.assert_allclose(scores, [0.6, np.inf, 0.1], rtol=1e-6)


def test_of_equally_probable_labels_the_first_is_the_label():
    logits = np.zeros((1, 2), np.float32)
    assert harmless_scores(logits, probabilities(logits), [1]) == 0.5
    assert harmless_scores(logits, probabilities(logits), [0]) == np.inf


def test_a_record_at_the_limit_exceeds_the_next_lower_one_whatever_the_precision_of_its_probability():
    shares = np.array([[0.9, 0.1]] * 59, np.float32)
    scores = harmless_scores(np.log(shares), shares, [1])
    assert scores.dtype == np.float64
    assert (scores > danger_limit(scores, 0.95, 0.95)).all()
