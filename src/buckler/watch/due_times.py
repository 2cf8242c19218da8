"""When jobs are due; a due time that a wrong clock has left is put right.

A clock may be wrong for a minute: after a resume, or with an empty battery until it is set by the network. Due times
that were stored meanwhile may lie years ahead or back.
"""

from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.triggers.cron import CronTrigger

from buckler.errors import ParamsError
from buckler.watch.settings import JobParams

SAMPLED_DUE_TIMES = 400  # to find the longest pause between two
# A clock that is set back by less changes nothing: a job that has just run must not be due again.
TOLERANCE = timedelta(minutes=1)


def trigger_of(name: str, job: JobParams) -> CronTrigger:
    """Return the trigger of ``job``, which computes its due times.

    Raises:
        ParamsError: The cron expression is invalid.
    """
    try:
        trigger = CronTrigger.from_crontab(job.cron)
    except ValueError as error:
        raise ParamsError(
            f"params.yaml: watch.jobs.{name}.cron: expected a cron expression, got {job.cron!r}: {error}"
        ) from error
    trigger.jitter = job.jitter_seconds or None
    return trigger


def period(name: str, job: JobParams) -> float:
    """Return the longest time between two due runs, including jitter, in seconds.

    Raises:
        ParamsError: The cron expression is invalid.
    """
    trigger = _without_jitter(trigger_of(name, job))
    now = datetime.now(UTC)
    before, longest = trigger.get_next_fire_time(None, now), 0.0
    for _ in range(SAMPLED_DUE_TIMES):
        after = trigger.get_next_fire_time(before, before)
        if after is None:
            break
        longest, before = max(longest, (after - before).total_seconds()), after
    return longest + job.jitter_seconds


def put_right(due: datetime, trigger: Any, *, grace_seconds: float, now: datetime) -> datetime:
    """Return ``due``, or another due time if the schedule cannot have led to it at ``now``.

    Args:
        due: Stored due time, aware.
        trigger: The job's trigger.
        grace_seconds: A run that was missed by at most this time still runs.
        now: The current time, aware.

    Returns:
        The next due time if ``due`` lies after it, more than the jitter explains. The latest run that still counts as
        missed, else the next one, if ``due`` lies before it: the scheduler would compute all runs in between, 30
        million for a job that runs each minute and was stored in 1970.
    """
    plain, jitter = _without_jitter(trigger), timedelta(seconds=trigger.jitter or 0)
    latest = plain.get_next_fire_time(None, now + TOLERANCE)
    if latest is not None and due > latest + jitter:
        return _aware(trigger.get_next_fire_time(None, now))
    earliest = now - timedelta(seconds=grace_seconds)
    return due if due >= earliest else _aware(plain.get_next_fire_time(None, earliest) or due)


def _without_jitter(trigger: Any) -> Any:
    plain = copy(trigger)
    plain.jitter = None
    return plain


def _aware(moment: Any) -> datetime:
    found: datetime = moment
    return found
