import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from buckler.evaluation.statistics import (
    auc_interval,
    below_p,
    holm,
    mcnemar_p,
    mean_of_rates,
    share_of,
    smallest_sample,
    two_proportions_p,
    wilson,
)


def test_wilson_gives_the_published_interval():
    # Newcombe 1998, table I: 81 of 263, 95 %.
    rate = wilson(81, 263)
    assert (round(rate.low, 4), round(rate.high, 4)) == (0.2553, 0.3662)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_share_and_stays_in_range(counts):
    rate = wilson(*counts)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes, total):
    with pytest.raises(ValueError, match="expected 0 <= successes <= total"):
        wilson(successes, total)


def test_mcnemar_counts_only_the_pictures_the_models_disagree_on():
    assert mcnemar_p(0, 7) == 1.0
    assert mcnemar_p(5, 0) == pytest.approx(0.5**5)
    assert mcnemar_p(3, 3) > 0.5


def test_fisher_sees_a_worse_share_and_not_a_better_one():
    assert two_proportions_p(90, 100, 60, 100) < 0.001
    assert two_proportions_p(60, 100, 90, 100) > 0.99


def test_a_share_counts_true_values_and_is_none_without_values():
    assert share_of(np.array([True, True, False, True])) == wilson(3, 4)
    assert share_of(np.zeros(0, bool)) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.62, 1.0])
@pytest.mark.parametrize("margin", [0.02, 0.06, 0.14])
def test_the_smallest_sample_is_enough_and_one_picture_fewer_is_not(share, margin):
    def half_width(count):
        # Wilson's interval at a share that need not be a whole number of pictures.
        z = 1.959963984540054
        return z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5

    needed = smallest_sample(share, margin)
    assert half_width(needed) <= margin < half_width(needed - 1)


def test_the_smallest_sample_of_a_survey_is_a_little_below_the_textbooks():
    # 385 by the normal approximation for one half, plus or minus 5 points; Wilson saves z squared, 3.84, pictures.
    assert smallest_sample(0.5, 0.05) == 381


@pytest.mark.parametrize(("share", "margin"), [(1.2, 0.1), (-0.1, 0.1), (0.5, 0.0), (0.5, 0.5)])
def test_a_sample_for_an_impossible_margin_is_refused(share, margin):
    with pytest.raises(ValueError, match=r"expected a share in 0\.\.1 and a margin"):
        smallest_sample(share, margin)


@pytest.mark.parametrize(("right", "total", "floor"), [(3, 20, 0.3), (0, 10, 0.5), (9, 10, 0.4)])
def test_falling_below_a_floor_is_the_exact_binomial_test(right, total, floor):
    assert below_p(right, total, floor) == pytest.approx(binomtest(right, total, floor, alternative="less").pvalue)


def test_holm_gives_what_r_gives():
    # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_and_the_bonferroni_p_values(p_values):
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= min(1, p * len(p_values))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_holm_keeps_false_alarms_among_many_true_hypotheses_at_the_level():
    draws = np.random.default_rng(7).uniform(size=(2000, 20))
    alarms = np.mean([min(holm(row.tolist())) < 0.05 for row in draws])
    assert alarms < 0.065  # 0.05 and three standard errors
    assert np.mean(draws.min(axis=1) < 0.05) > 0.6  # uncorrected


def drawn(generator, positives, negatives, *, shift):
    """Return normal scores whose area under the ROC curve is the normal distribution at ``shift`` / root 2."""
    scores = np.concatenate([generator.normal(shift, 1, positives), generator.normal(0, 1, negatives)])
    return scores, np.arange(positives + negatives) < positives


@pytest.mark.parametrize(("positives", "negatives", "shift"), [(40, 60, 0.5), (30, 30, 1.5), (34, 121, 2.0)])
def test_the_interval_of_the_area_contains_the_true_area_as_often_as_it_says(positives, negatives, shift):
    generator, area = np.random.default_rng(7), norm.cdf(shift / 2**0.5)
    samples = [drawn(generator, positives, negatives, shift=shift) for _ in range(400)]
    intervals = [auc_interval(*sample) for sample in samples]
    assert 0.92 <= np.mean([low <= area <= high for low, high in intervals]) <= 0.99
    areas = (roc_auc_score(positive, scores) for scores, positive in samples)
    assert all(0 <= low <= value <= high <= 1 for value, (low, high) in zip(areas, intervals, strict=True))


def test_the_variance_of_the_area_is_that_of_all_pairs():
    scores, positive = drawn(np.random.default_rng(3), 9, 14, shift=1.0)
    scores = np.round(scores, 1)  # with ties
    wins = np.where(scores[positive][:, None] == scores[~positive], 0.5, scores[positive][:, None] > scores[~positive])
    variance = wins.mean(axis=1).var(ddof=1) / 9 + wins.mean(axis=0).var(ddof=1) / 14
    area = wins.mean()
    half = 1.959963984540054 * variance**0.5 / (area * (1 - area))
    expected = 1 / (1 + (1 - area) / area * np.exp([half, -half]))
    np.testing.assert_allclose(auc_interval(scores, positive), expected, rtol=1e-9)


def test_separated_scores_leave_as_much_doubt_as_their_rarer_kind():
    scores, positive = np.arange(50.0), np.arange(50) >= 40
    assert auc_interval(scores, positive) == pytest.approx((binomtest(10, 10).proportion_ci().low, 1.0))
    assert auc_interval(-scores, positive) == pytest.approx((0.0, binomtest(0, 10).proportion_ci().high))


def test_one_picture_of_a_kind_gives_no_interval():
    assert auc_interval(np.arange(5.0), np.arange(5) == 4) is None


def test_the_mean_of_one_rate_is_the_rate():
    assert mean_of_rates([wilson(7, 9)]).interval == pytest.approx(wilson(7, 9).interval)


def test_the_interval_of_a_mean_contains_the_true_mean_as_often_as_it_says():
    generator, shares, sizes = np.random.default_rng(7), (0.95, 0.7, 0.4), (20, 60, 200)
    hits = 0
    for _ in range(600):
        rates = [wilson(int(generator.binomial(size, share)), size) for share, size in zip(shares, sizes, strict=True)]
        mean = mean_of_rates(rates)
        assert mean.pictures == 280
        hits += mean.low <= np.mean(shares) <= mean.high
    assert 0.92 <= hits / 600 <= 0.98


def test_the_mean_of_the_classes_rates_is_the_balanced_accuracy():
    truth, guesses = np.random.default_rng(5).integers(0, 4, (2, 300))
    rates = [share_of(guesses[truth == place] == place) for place in range(4)]
    assert mean_of_rates(rates).value == pytest.approx(balanced_accuracy_score(truth, guesses))
