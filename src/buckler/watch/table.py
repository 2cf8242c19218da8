"""The table of jobs and the metrics of each; `buckler.watch.jobs` runs them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import Metric

from buckler.errors import BucklerError
from buckler.watch import drift_report, findings


@dataclass(frozen=True, slots=True)
class Result:
    """What a job found.

    Attributes:
        passed: Whether all is as it must be.
        message: For people: what was looked at, and why not.
        version: Of the model that it is about; None: the champion, whichever it is when the policy is followed.
        renews_days: Days from now to which passing renews the verdict; None: it does not.
    """

    passed: bool
    message: str
    version: str | None = None
    renews_days: int | None = None


Metrics = Callable[[Mapping[str, Any] | None], Iterator[Metric]]

# A job's name -> its metrics, from what the job wrote with ``write_state``; None before its first run.
JOBS: dict[str, Metrics] = {
    "reevaluate": findings.reevaluation,
    "probe": findings.probe,
    "canary": findings.canary,
    "drift": drift_report.drift_metrics,
}


def check_name(name: str) -> None:
    """Raise BucklerError unless ``name`` is a job's."""
    if name not in JOBS:
        raise BucklerError(f"expected a job of {sorted(JOBS)}, got {name!r}")
