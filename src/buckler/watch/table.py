"""The table of jobs and the metrics of each; `buckler.watch.jobs` runs them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import Metric

from buckler.errors import BucklerError
from buckler.watch import drift_report, findings


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding of a job.

    Attributes:
        passed: Whether all requirements are met.
        message: Text for people: what was checked, and why it failed.
        version: Version of the checked model; None: the champion when the policy is applied.
        renews_days: A pass renews the verdict for this many days from now; None: no renewal.
    """

    passed: bool
    message: str
    version: str | None = None
    renews_days: int | None = None


SIGNED = "signed"  # the state of the comparison of registry and journal

Metrics = Callable[[Mapping[str, Any] | None], Iterator[Metric]]

# Job -> function from its stored state (``write_state``; None before its first run) to its metrics.
JOBS: dict[str, Metrics] = {
    "reevaluate": findings.reevaluation,
    "probe": findings.probe,
    "canary": findings.canary,
    "drift": drift_report.drift_metrics,
}


def check_name(name: str) -> None:
    """Raise BucklerError unless ``name`` is the name of a job."""
    if name not in JOBS:
        raise BucklerError(f"expected a job of {sorted(JOBS)}, got {name!r}")
