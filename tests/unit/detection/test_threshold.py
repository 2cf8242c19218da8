import numpy as np
import pytest

from buckler.detection.threshold import threshold_at


@pytest.mark.parametrize(("max_fpr", "confidence"), [(0.05, 0.95), (0.05, 0.8), (0.2, 0.9)])
def test_threshold_keeps_to_its_share_as_often_as_it_promises(max_fpr, confidence):
    generator = np.random.default_rng(5)
    fresh = generator.normal(size=100_000)
    kept = [(fresh > threshold_at(generator.normal(size=211), max_fpr, confidence)).mean() for _ in range(600)]
    assert confidence - 0.03 <= np.mean(np.array(kept) <= max_fpr) <= confidence + 0.06


def test_threshold_is_no_higher_than_it_must_be():
    scores = np.arange(211.0)
    # Of 211, at most five above have a probability of 4.5 % at a share of 5 %; at most six, 9.3 %.
    assert threshold_at(scores, 0.05, 0.95) == 211 - 1 - 5


def test_more_pictures_bring_it_closer_to_the_share():
    generator = np.random.default_rng(6)
    few, many = (threshold_at(generator.normal(size=n), 0.05, 0.95) for n in (100, 20_000))
    assert many < few
    assert many == pytest.approx(1.645, abs=0.08)


def test_too_few_scores_for_so_small_a_share_are_refused():
    with pytest.raises(ValueError, match=r"58 clean scores cannot resolve max_fpr=0\.05 .*0\.95; need at least 59"):
        threshold_at(np.zeros(58), 0.05, 0.95)
    threshold_at(np.zeros(59), 0.05, 0.95)
