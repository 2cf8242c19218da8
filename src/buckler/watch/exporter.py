"""Prometheus metrics of the watch, read from disk at each scrape."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from buckler.serving.aliases import CHAMPION
from buckler.trust.standing import STATES
from buckler.watch import locks
from buckler.watch.findings import gauge
from buckler.watch.history import OUTCOMES, History, Run
from buckler.watch.settings import ACTIONS
from buckler.watch.state import read_state
from buckler.watch.table import JOBS, SIGNED


class Exporter(Collector):
    """Metrics of the history, the jobs' findings and the policy's actions.

    Args:
        history: The runs.
        periods: Longest time between two due runs of each job, in seconds; alert rules about late jobs need it.
    """

    def __init__(self, history: History, periods: Mapping[str, float] | None = None) -> None:
        self._history = history
        self._periods = periods or {}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; every job has all its series from the start, and the time of no event is 0."""
        yield from self._jobs()
        yield from self._runs()
        yield from self._actions()
        for name, metrics in JOBS.items():
            yield from metrics(read_state(name))
        yield from _champion()
        yield _signed_records()

    def _jobs(self) -> Iterator[Metric]:
        success = gauge("buckler_watch_last_success_timestamp_seconds", "When the job last passed or failed.", "job")
        last = gauge("buckler_watch_last_run_timestamp_seconds", "When the job last ended, also with an error.", "job")
        duration = gauge("buckler_watch_duration_seconds", "Duration of the last finished run.", "job")
        running = gauge("buckler_watch_running", "1 while the job runs.", "job")
        period = gauge("buckler_watch_period_seconds", "Longest time between two due runs of the job.", "job")
        for job in JOBS:
            finished = self._history.latest(job, completed=False)
            success.add_metric([job], _ended(self._history.latest(job, completed=True)))
            last.add_metric([job], _ended(finished))
            duration.add_metric([job], (finished.seconds or 0) if finished else 0)
            running.add_metric([job], int(locks.is_running(job)))
            if job in self._periods:
                period.add_metric([job], self._periods[job])
        yield from (success, last, duration, running, period)

    def _runs(self) -> Iterator[Metric]:
        counts, tried = self._history.counts(), self._history.attempts()
        runs = CounterMetricFamily("buckler_watch_runs", "Finished runs of scheduled jobs.", labels=["job", "outcome"])
        attempts = CounterMetricFamily("buckler_watch_attempts", "Runs that were started.", labels=["job"])
        for job in JOBS:
            for outcome in OUTCOMES:
                runs.add_metric([job, outcome], counts.get((job, outcome), 0))
            attempts.add_metric([job], tried.get(job, 0))
        yield from (runs, attempts)

    def _actions(self) -> Iterator[Metric]:
        taken = self._history.actions()
        actions = CounterMetricFamily(
            "buckler_policy_actions", "Actions taken after failed runs.", labels=["job", "action"]
        )
        for job in JOBS:
            for action in ACTIONS:
                actions.add_metric([job, action], taken.get((job, action), 0))
        yield actions


def _champion() -> Iterator[Metric]:
    seen = read_state(CHAMPION)
    standing = gauge("buckler_standing", "1 for the champion's standing when last observed.", "state")
    for state in STATES:
        standing.add_metric([state], int(bool(seen) and (seen or {}).get("state") == state))
    yield standing
    if seen is None:
        return
    expiry = gauge("buckler_verdict_expiry_timestamp_seconds", "When the champion's verdict, or its renewal, expires.")
    expiry.add_metric([], datetime.fromisoformat(seen["expires_at"]).timestamp())
    issued = gauge("buckler_verdict_issued_timestamp_seconds", "When the verdict was issued or last renewed.")
    issued.add_metric([], datetime.fromisoformat(seen["issued_at"]).timestamp())
    yield from (expiry, issued)


def _signed_records() -> Metric:
    seen = read_state(SIGNED) or {}
    lost = gauge("buckler_signed_records_lost", "Signed records that registry or journal lack when compared.", "where")
    for where in ("registry", "journal"):
        lost.add_metric([where], len(seen.get(where, ())))
    return lost


def _ended(run: Run | None) -> float:
    return run.started_at + (run.seconds or 0) if run else 0
