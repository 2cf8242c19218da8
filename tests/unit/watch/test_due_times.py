from datetime import UTC, datetime, timedelta

import pytest

from buckler.watch import due_times
from tests.unit.watch import made

NOW = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)
EACH_MINUTE, EACH_NIGHT = "* * * * *", "17 3 * * *"


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")


@pytest.mark.parametrize(
    ("cron", "seconds"),
    [(EACH_MINUTE, 60), ("41 */6 * * *", 6 * 3600), ("0 3 * * mon-fri", 3 * 86400), ("0 3 * * sun", 7 * 86400)],
)
def test_period_is_the_longest_pause_between_two_due_runs_plus_jitter(cron, seconds):
    assert due_times.period("job", made.job(cron=cron, jitter_seconds=30)) == seconds + 30


def right(cron: str, due: datetime, *, grace_seconds: float = 60, jitter_seconds: int = 0) -> datetime:
    trigger = due_times.trigger_of("job", made.job(cron=cron, jitter_seconds=jitter_seconds))
    return due_times.put_right(due, trigger, grace_seconds=grace_seconds, now=NOW)


@pytest.mark.parametrize(
    ("cron", "ahead", "next_due"),
    [
        (EACH_MINUTE, timedelta(hours=1), datetime(2026, 3, 4, 12, 1, tzinfo=UTC)),
        (EACH_MINUTE, timedelta(days=40), datetime(2026, 3, 4, 12, 1, tzinfo=UTC)),
        # An hour back: the night's run was due again in 15 hours, not in 39.
        (EACH_NIGHT, timedelta(hours=39, minutes=16, seconds=30), datetime(2026, 3, 5, 3, 17, tzinfo=UTC)),
        (EACH_NIGHT, timedelta(days=40), datetime(2026, 3, 5, 3, 17, tzinfo=UTC)),
    ],
)
def test_a_due_time_after_the_next_one_is_replaced_by_the_next_one(cron, ahead, next_due):
    assert right(cron, NOW + ahead) == next_due


@pytest.mark.parametrize("jitter", [0, 299])
def test_the_next_due_time_and_its_jitter_are_kept(jitter):
    due = datetime(2026, 3, 5, 3, 17, tzinfo=UTC) + timedelta(seconds=jitter)
    assert right(EACH_NIGHT, due, jitter_seconds=300) == due


def test_a_job_that_has_just_run_is_not_due_again_after_a_small_correction_of_the_clock():
    """It ran at 12:01:00, and the clock was set back by half a minute."""
    due = datetime(2026, 3, 4, 12, 2, tzinfo=UTC)
    assert right(EACH_MINUTE, due) == due


def test_a_missed_run_that_still_counts_is_kept():
    due = datetime(2026, 3, 4, 3, 17, tzinfo=UTC)
    assert right(EACH_NIGHT, due, grace_seconds=86400) == due


@pytest.mark.parametrize(
    ("cron", "grace", "expected"),
    [
        (EACH_NIGHT, 86400, datetime(2026, 3, 4, 3, 17, tzinfo=UTC)),  # last night's, which still counts
        (EACH_NIGHT, 3600, datetime(2026, 3, 5, 3, 17, tzinfo=UTC)),
        (EACH_MINUTE, 10, datetime(2026, 3, 4, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_due_time_of_1970_costs_no_million_of_missed_runs(cron, grace, expected):
    assert right(cron, datetime(1970, 1, 1, tzinfo=UTC), grace_seconds=grace) == expected
