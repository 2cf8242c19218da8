"""The table of jobs: what each runs, and what of its findings is exported."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import Metric

from buckler import drift_report
from buckler.errors import BucklerError
from buckler.watch import findings


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


@dataclass(frozen=True, slots=True)
class Job:
    """A line of the table.

    Attributes:
        run: ``module:function``, a function without arguments that returns a ``Result``. By name, not by import: what
            a job does lies above this package, and TensorFlow loads only where it runs.
        metrics: From what the job left with ``write_state``, None before its first run, to its metrics.
    """

    run: str
    metrics: Callable[[Mapping[str, Any] | None], Iterator[Metric]]


JOBS: dict[str, Job] = {
    "reevaluate": Job("pipelines.jobs.reevaluate:run", findings.reevaluation),
    "probe": Job("pipelines.jobs.probe:run", findings.probe),
    "canary": Job("pipelines.jobs.canary:run", findings.canary),
    "drift": Job("pipelines.jobs.drift:run", drift_report.drift_metrics),
}


def load_job(name: str) -> Callable[[], Result]:
    """Return the function of job ``name``.

    Raises:
        BucklerError: There is no such job.
    """
    check_name(name)
    module, _, function = JOBS[name].run.partition(":")
    job: Callable[[], Result] = getattr(importlib.import_module(module), function)
    return job


def check_name(name: str) -> None:
    """Raise BucklerError unless ``name`` is a job's."""
    if name not in JOBS:
        raise BucklerError(f"expected a job of {sorted(JOBS)}, got {name!r}")
