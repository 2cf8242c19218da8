"""The last runs and findings of the watch's jobs, and the active alerts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from buckler import watch
from buckler.errors import BucklerError
from buckler.state import paths, proxies
from services.console.live_metrics import TIMEOUT_SECONDS
from services.console.settings import Settings

LATEST_RUNS = 20
SEVERITIES = ("critical", "warning", "info")  # in the order of the page


@dataclass(frozen=True, slots=True)
class Job:
    """A scheduled job, its last run if there is one, and the reasons in its last finding."""

    name: str
    last: watch.Run | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert; ``state`` is ``firing``, ``pending`` or ``silenced``."""

    name: str
    severity: str
    state: str
    summary: str
    description: str
    runbook: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Alerts:
    """The alerts of ``source``, ``Prometheus`` or ``Alertmanager``; None if neither answers."""

    source: str | None
    alerts: tuple[Alert, ...] = ()


def jobs(settings: Settings) -> tuple[list[Job], list[watch.Run]]:
    """Return every job, and the latest runs of all jobs.

    Raises:
        BucklerError: The history cannot be read, or no job has run.
    """
    if not settings.watch_database_url and not paths.WATCH.is_dir():  # opening the history would create the folder
        raise BucklerError("no job has run here; `buckler watch` runs the jobs on schedule")
    with watch.History(settings.watch_database_url) as history:
        runs = history.runs(limit=LATEST_RUNS)
        return [Job(name, _last(history, name), _reasons(name)) for name in watch.JOBS], runs


def _last(history: watch.History, name: str) -> watch.Run | None:
    return next(iter(history.runs(name, limit=1)), None)


def _reasons(name: str) -> tuple[str, ...]:
    reasons = (watch.read_state(name) or {}).get("reasons", ())
    return tuple(reason for reason in reasons if isinstance(reason, str)) if isinstance(reasons, list) else ()


def alerts(settings: Settings) -> Alerts:
    """Return the alerts of Prometheus, or of Alertmanager if Prometheus does not answer."""
    with httpx.Client(timeout=TIMEOUT_SECONDS, mounts=proxies.DIRECT) as http:
        try:
            entries = _json(http, f"{settings.prometheus_url}/api/v1/alerts")["data"]["alerts"]
            return Alerts("Prometheus", _sorted(map(_of_prometheus, entries)))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            pass
        try:
            entries = _json(http, f"{settings.alertmanager_url}/api/v2/alerts")
            return Alerts("Alertmanager", _sorted(map(_of_alertmanager, entries)))
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


def _sorted(alerts: Any) -> tuple[Alert, ...]:
    def rank(alert: Alert) -> tuple[bool, int, str]:
        place = SEVERITIES.index(alert.severity) if alert.severity in SEVERITIES else len(SEVERITIES)
        return alert.state != "firing", place, alert.name

    return tuple(sorted(alerts, key=rank))
