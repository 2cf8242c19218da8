import numpy as np
import pytest

from buckler.detection.threshold import threshold_at
from buckler.errors import ParamsError


@pytest.mark.parametrize(("max_fpr", "confidence"), [(0.05, 0.95), (0.05, 0.8), (0.2, 0.9)])
def test_the_false_positive_rate_is_kept_with_the_stated_confidence(max_fpr, confidence):
    generator = np.random.default_rng(5)
    fresh = generator.normal(size=100_000)
    kept = [(fresh > threshold_at(generator.normal(size=211), max_fpr, confidence)).mean() for _ in range(600)]
    assert confidence - 0.03 <= np.mean(np.array(kept) <= max_fpr) <= confidence + 0.06


def test_the_threshold_is_the_lowest_valid_one():
    scores = np.arange(211.0)
    # At a true share of 5 %, at most five of 211 exceed it with a probability of 4.5 %; at most six with 9.3 %.
    assert threshold_at(scores, 0.05, 0.95) == 211 - 1 - 5


def test_more_scores_bring_the_threshold_closer_to_the_quantile():
    generator = np.random.default_rng(6)
    few, many = (threshold_at(generator.normal(size=n), 0.05, 0.95) for n in (100, 20_000))
    assert many < few
    assert many == pytest.approx(1.645, abs=0.08)


def test_too_few_scores_for_the_false_positive_rate_are_rejected():
    with pytest.raises(ParamsError, match=r"at least 59 .*max_fpr 0\.05 with calibrate\.confidence 0\.95, got 58;"):
        threshold_at(np.zeros(58), 0.05, 0.95)
    threshold_at(np.zeros(59), 0.05, 0.95)
