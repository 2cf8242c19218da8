"""What the scheduled jobs found, and which alerts there are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from buckler import watch
from buckler.errors import BucklerError
from buckler.state import paths
from services.console.figures import TIMEOUT_SECONDS
from services.console.settings import Settings

RUNS = 20
SEVERITIES = ("critical", "warning", "info")  # the order of showing them


@dataclass(frozen=True, slots=True)
class Job:
    """A scheduled job: its last run, whatever became of it, and what it wrote down."""

    name: str
    last: watch.Run | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert that fires or is about to."""

    name: str
    severity: str
    state: str
    summary: str
    description: str
    runbook: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Alerts:
    """All of them; ``source`` says who was asked, None if nobody answers."""

    source: str | None
    alerts: tuple[Alert, ...] = ()


def jobs() -> tuple[list[Job], list[watch.Run]]:
    """Return every job, and the latest runs of all.

    Raises:
        BucklerError: The history cannot be read, or no watch ever ran here.
    """
    if not os.environ.get(watch.DATABASE_URL_ENV) and not paths.WATCH.is_dir():  # reading must not create one
        raise BucklerError("no job has run here; `buckler watch` runs them at their times")
    history = watch.History()
    runs = history.runs(limit=RUNS)
    return [Job(name, _last(history, name), _reasons(name)) for name in watch.JOBS], runs


def _last(history: watch.History, name: str) -> watch.Run | None:
    return next(iter(history.runs(name, limit=1)), None)


def _reasons(name: str) -> tuple[str, ...]:
    found = (watch.read_state(name) or {}).get("reasons", ())
    return tuple(reason for reason in found if isinstance(reason, str)) if isinstance(found, list) else ()


def alerts(settings: Settings) -> Alerts:
    """Return the alerts of Prometheus, else of Alertmanager."""
    with httpx.Client(timeout=TIMEOUT_SECONDS) as http:
        try:
            found = _json(http, f"{settings.prometheus_url}/api/v1/alerts")["data"]["alerts"]
            return Alerts("Prometheus", _sorted(map(_of_prometheus, found)))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            pass
        try:
            found = _json(http, f"{settings.alertmanager_url}/api/v2/alerts")
            return Alerts("Alertmanager", _sorted(map(_of_alertmanager, found)))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return Alerts(None)


def _json(http: httpx.Client, url: str) -> Any:
    answer = http.get(url)
    answer.raise_for_status()
    return answer.json()


def _of_prometheus(entry: Mapping[str, Any]) -> Alert:
    return _alert(entry, entry["state"], entry.get("activeAt"))


def _of_alertmanager(entry: Mapping[str, Any]) -> Alert:
    return _alert(entry, "firing" if entry["status"]["state"] == "active" else "silenced", entry.get("startsAt"))


def _alert(entry: Mapping[str, Any], state: str, since: str | None) -> Alert:
    labels, notes = entry["labels"], entry["annotations"]
    return Alert(
        name=labels["alertname"],
        severity=labels.get("severity", "none"),
        state=state,
        summary=notes.get("summary", ""),
        description=notes.get("description", ""),
        runbook=notes.get("runbook_url", ""),
        since=datetime.fromisoformat(since) if since else None,
    )


def _sorted(found: Any) -> tuple[Alert, ...]:
    def rank(alert: Alert) -> tuple[bool, int, str]:
        place = SEVERITIES.index(alert.severity) if alert.severity in SEVERITIES else len(SEVERITIES)
        return alert.state != "firing", place, alert.name

    return tuple(sorted(found, key=rank))
