import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.evaluation.statistics import mcnemar_p, two_proportions_p, wilson


def test_wilson_gives_the_published_interval():
    # Newcombe 1998, table I: 81 of 263, 95 %.
    rate = wilson(81, 263)
    assert (round(rate.low, 4), round(rate.high, 4)) == (0.2553, 0.3662)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_in_range(counts):
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
