"""Places and tokens with a clock that a test moves."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.errors import LimitError
from buckler.serving.limits import Limiter, RateLimits, TokenBucket


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limiter(clock: Clock, **changes: float) -> Limiter:
    return Limiter(
        RateLimits(**{"per_second": 2, "burst": 3, "at_once": 10, "in_progress": 10, **changes}), clock=clock
    )


def ask(limiter: Limiter, client: str | None = "a") -> str:
    try:
        with limiter.place(client):
            return "taken"
    except LimitError as error:
        return f"{error.code} {error.retry_after}"


def test_a_client_may_send_a_burst_and_then_its_rate(clock: Clock):
    front = limiter(clock)
    assert [ask(front) for _ in range(4)] == ["taken"] * 3 + ["rate_limited 1"]
    clock.now += 0.5
    assert [ask(front) for _ in range(2)] == ["taken", "rate_limited 1"]


def test_a_pause_earns_at_most_the_burst(clock: Clock):
    front = limiter(clock)
    assert ask(front) == "taken"
    clock.now += 3600
    assert [ask(front) for _ in range(4)] == ["taken"] * 3 + ["rate_limited 1"]


def test_clients_have_separate_rates(clock: Clock):
    front = limiter(clock)
    assert [ask(front, "a") for _ in range(4)][-1] == "rate_limited 1"
    assert ask(front, "b") == "taken"


def test_a_batch_takes_a_place_for_each_picture_and_delays_later_requests(clock: Clock):
    front = limiter(clock, at_once=5, in_progress=6)
    with front.place("a"), front.more("a", 4):
        assert ask(front, "a") == "too_many_at_once 1"
        assert ask(front, "b") == "taken"
    # Five tokens taken of three: at two a second, the next one is there after 1.5 s.
    assert ask(front, "a") == "rate_limited 2"
    clock.now += 1.5
    assert ask(front, "a") == "taken"


@pytest.mark.parametrize(
    ("changes", "client", "code"),
    [
        ({"at_once": 3}, "a", "too_many_at_once"),
        ({"in_progress": 3}, "a", "overloaded"),
        ({"in_progress": 3}, None, "overloaded"),
    ],
)
def test_a_batch_with_too_few_places_takes_none_and_costs_no_token(clock: Clock, changes, client, code):
    front = limiter(clock, **changes)
    with front.place(client):
        with pytest.raises(LimitError) as caught, front.more(client, 3):
            raise AssertionError("there are not so many places")
        assert caught.value.code == code
        with front.more(client, 2):
            pass
    assert ask(front, "b") == "taken"


def test_without_a_key_a_batch_counts_towards_the_total(clock: Clock):
    front = limiter(clock, in_progress=4)
    with front.place(None), front.more(None, 3):
        assert ask(front, None) == "overloaded 1"
    assert ask(front, None) == "taken"


def test_retry_after_is_long_enough_and_in_whole_seconds(clock: Clock):
    front = limiter(clock, per_second=0.3, burst=1)
    assert [ask(front), ask(front)] == ["taken", "rate_limited 4"]
    clock.now += 4
    assert ask(front) == "taken"


def test_the_concurrent_requests_of_a_client_are_limited(clock: Clock):
    front = limiter(clock, at_once=2)
    with front.place("a"), front.place("a"):
        assert ask(front, "a") == "too_many_at_once 1"
        assert ask(front, "b") == "taken"
    assert ask(front, "a") == "taken"


def test_the_total_of_concurrent_requests_is_limited_with_or_without_keys(clock: Clock):
    front = limiter(clock, in_progress=2)
    with front.place("a"), front.place(None):
        assert ask(front, "b") == ask(front, None) == "overloaded 1"
    assert ask(front, "b") == "taken"


def test_without_a_client_only_the_total_limit_applies(clock: Clock):
    front = limiter(clock, burst=1, at_once=1)
    with ExitStack() as held:
        for _ in range(10):
            held.enter_context(front.place(None))
        assert ask(front, None) == "overloaded 1"


def test_a_request_refused_for_lack_of_a_place_costs_no_token(clock: Clock):
    front = limiter(clock, in_progress=1, burst=1)
    with front.place(None):
        assert ask(front, "a") == "overloaded 1"
    assert ask(front, "a") == "taken"


def test_a_place_is_freed_when_its_request_fails(clock: Clock):
    front = limiter(clock, at_once=1, in_progress=1)
    with pytest.raises(RuntimeError), front.place("a"):
        raise RuntimeError
    assert ask(front) == "taken"


@given(pauses=st.lists(st.floats(0, 10), max_size=50), per_second=st.floats(0.01, 100), burst=st.integers(1, 20))
def test_no_pattern_of_requests_exceeds_burst_and_rate(pauses: list[float], per_second: float, burst: int):
    bucket, now, taken = TokenBucket(per_second=per_second, burst=burst, now=0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0
        assert taken <= burst + per_second * now + 1e-6


@given(per_second=st.floats(0.01, 100), burst=st.integers(1, 20))
def test_a_client_that_waits_for_retry_after_gets_a_token(per_second: float, burst: int):
    bucket = TokenBucket(per_second=per_second, burst=burst, now=0)
    while not (wait := bucket.take(0)):
        pass
    assert bucket.take(wait * (1 + 1e-9)) == 0
