"""Live figures and drift results.

Figures come from Prometheus if it answers and scrapes the service, otherwise from two reads of the service's metrics.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from buckler.errors import BucklerError
from buckler.state import proxies
from services.classifier.endpoints import ENDPOINTS
from services.console import messages
from services.console.settings import Settings

TIMEOUT_SECONDS = 3.0
HOUR_SECONDS, STEP_SECONDS = 3600, 60  # span and resolution of a sparkline from Prometheus
KEPT_READS = 120  # points of a sparkline from the service: half an hour of a page that reads every 15 seconds
_ASKED = f'endpoint=~"{"|".join(ENDPOINTS.picture_labels)}"'
_BUCKETS = f"sum by (le) (rate(buckler_request_seconds_bucket{{{_ASKED}}}[5m]))"
_PICTURES = "(sum(increase(buckler_predictions_total[15m])) > 0)"
QUERIES = {
    "requests": f"sum(rate(buckler_requests_total{{{_ASKED}}}[5m]))",
    "errors": f'sum(rate(buckler_requests_total{{{_ASKED},code=~"5.."}}[5m]))'
    f" / (sum(rate(buckler_requests_total{{{_ASKED}}}[5m])) > 0)",
    "p50": f"histogram_quantile(0.5, {_BUCKETS})",
    "p99": f"histogram_quantile(0.99, {_BUCKETS})",
    "flagged": f'sum(increase(buckler_decisions_total{{reason="adversarial"}}[15m])) / {_PICTURES}',
    "review": f'1 - sum(increase(buckler_decisions_total{{decision="accept"}}[15m])) / {_PICTURES}',
}
NAMES = {
    "requests": "Traffic",
    "errors": "Errors",
    "p50": "Latency, median",
    "p99": "Latency, 99th percentile",
    "flagged": "Flagged as manipulated",
    "review": "Sent to review",
}
WATCH_METRICS = r"buckler_(drift|canary|probe|standing|model_standing|gate_passed|verdict_expiry).*"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the page.

    Attributes:
        value: Text with the unit, or why there is no number.
        series: Earlier values, oldest first; None where nothing was measured.
        known: Whether ``value`` is a number.
    """

    name: str
    value: str
    series: tuple[float | None, ...] = ()
    known: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """The latest value of one series."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class LiveMetrics:
    """Everything on the live panel.

    Attributes:
        source: Where the figures come from, for the page; empty without figures.
        figures: Figures of the service.
        drift: Metrics of the job ``drift``.
        others: Other metrics of the watch.
        problems: What could not be read, and what to do.
    """

    source: str
    figures: tuple[Figure, ...] = ()
    drift: tuple[Sample, ...] = ()
    others: tuple[Sample, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters of the service at the monotonic time ``at``; ``buckets`` has the cumulative counts by upper edge."""

    at: float
    requests: float = 0.0
    errors: float = 0.0
    pictures: float = 0.0
    flagged: float = 0.0
    accepted: float = 0.0
    buckets: Mapping[float, float] = field(default_factory=dict)


class MetricsUnavailableError(BucklerError):
    """A server does not answer, or not with metrics."""


class MetricsReader:
    """Reads live metrics; keeps earlier totals of the service, from which rates are computed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reads: deque[Totals] = deque(maxlen=KEPT_READS)
        self._lock = threading.Lock()

    def read(self) -> LiveMetrics:
        """Return the metrics that are available; a server that does not answer is one of the problems."""
        with httpx.Client(timeout=TIMEOUT_SECONDS, mounts=proxies.DIRECT) as http:
            try:
                figures, of_watch = self._from_prometheus(http)
            except MetricsUnavailableError as error:
                return self._without_prometheus(http, str(error))
        source = "From Prometheus. Curves: last hour; numbers: last 5 minutes; shares of pictures: last 15 minutes."
        return LiveMetrics(source, figures, *_split(of_watch))

    def _without_prometheus(self, http: httpx.Client, why: str) -> LiveMetrics:
        of_watch, problems = self._from_watch(http)
        try:
            figures = self._from_service(http)
        except MetricsUnavailableError as error:
            return LiveMetrics("", (), *_split(of_watch), (why, str(error), *problems))
        source = "From the service's metrics, between the last two refreshes of this page."
        return LiveMetrics(source, figures, *_split(of_watch), problems)

    def _from_prometheus(self, http: httpx.Client) -> tuple[tuple[Figure, ...], list[Sample]]:
        url = self._settings.prometheus_url
        # Whole steps, so that two refreshes within a minute draw the same sparkline.
        end = time.time() // STEP_SECONDS * STEP_SECONDS
        figures = []
        for name, query in QUERIES.items():
            now = _values(_get(http, f"{url}/api/v1/query", {"query": query}))
            if name == "requests" and not now:
                raise MetricsUnavailableError(
                    f"Prometheus at {url} has no metrics of the service; check that the service is one of its targets"
                )
            span = {"query": query, "start": str(end - HOUR_SECONDS), "end": str(end), "step": str(STEP_SECONDS)}
            series = _series(_get(http, f"{url}/api/v1/query_range", span), end)
            figures.append(_figure(name, now[0].value if now else None, series))
        of_watch = _values(_get(http, f"{url}/api/v1/query", {"query": f'{{__name__=~"{WATCH_METRICS}"}}'}))
        return tuple(figures), of_watch

    def _from_service(self, http: httpx.Client) -> tuple[Figure, ...]:
        text = _text(http, f"{self._settings.service_url}/metrics", self._scrape_headers())
        read = total(_parse(text), time.monotonic())
        with self._lock:
            if self._reads and self._reads[-1].requests > read.requests:
                self._reads.clear()  # the service restarted and counts from zero
            self._reads.append(read)
            reads = list(self._reads)
        return between(reads)

    def _from_watch(self, http: httpx.Client) -> tuple[list[Sample], tuple[str, ...]]:
        try:
            samples = _parse(_text(http, f"{self._settings.watch_url}/metrics", {}))
        except MetricsUnavailableError as error:
            return [], (f"{error}; `buckler watch` runs the jobs that measure drift and attack the live model again",)
        return [sample for sample in samples if sample.name.startswith("buckler_")], ()

    def _scrape_headers(self) -> dict[str, str]:
        path = self._settings.scrape_key_file
        if path is None:
            return {}
        try:
            return {"authorization": f"Bearer {path.read_text(encoding='ascii').strip()}"}
        except (OSError, ValueError) as error:
            raise MetricsUnavailableError(f"cannot read BUCKLER_SCRAPE_KEY_FILE {path}: {error}") from error


def total(samples: Iterable[Sample], at: float) -> Totals:
    """Return the sums of the service's counters over all labels that matter here."""
    sums: dict[str, float] = dict.fromkeys(("requests", "errors", "pictures", "flagged", "accepted"), 0.0)
    buckets: dict[float, float] = {}
    for sample in samples:
        labels = sample.labels
        asked = labels.get("endpoint") in ENDPOINTS.picture_labels
        if sample.name == "buckler_requests_total" and asked:
            sums["requests"] += sample.value
            sums["errors"] += sample.value * labels["code"].startswith("5")
        elif sample.name == "buckler_request_seconds_bucket" and asked:
            edge = float(labels["le"])
            buckets[edge] = buckets.get(edge, 0.0) + sample.value
        elif sample.name == "buckler_predictions_total":
            sums["pictures"] += sample.value
        elif sample.name == "buckler_decisions_total":
            sums["flagged"] += sample.value * (labels["reason"] == "adversarial")
            sums["accepted"] += sample.value * (labels["decision"] == "accept")
    return Totals(at, buckets=buckets, **sums)


def between(reads: list[Totals]) -> tuple[Figure, ...]:
    """Return the figures between the last two of ``reads``; each earlier pair is one value of their series."""
    if len(reads) < 2:
        return tuple(Figure(name, "at the next refresh", known=False) for name in NAMES.values())
    rows = [_rates(first, second) for first, second in pairwise(reads)]
    return tuple(_figure(name, rows[-1][name], [row[name] for row in rows]) for name in QUERIES)


def _rates(first: Totals, second: Totals) -> dict[str, float | None]:
    requests, pictures = second.requests - first.requests, second.pictures - first.pictures
    counts = {edge: count - first.buckets.get(edge, 0.0) for edge, count in second.buckets.items()}
    return {
        "requests": requests / max(second.at - first.at, 1e-3),
        "errors": _share(second.errors - first.errors, requests),
        "p50": quantile(counts, 0.5),
        "p99": quantile(counts, 0.99),
        "flagged": _share(second.flagged - first.flagged, pictures),
        "review": _share(pictures - (second.accepted - first.accepted), pictures),
    }


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def quantile(counts: Mapping[float, float], share: float) -> float | None:
    """Return the quantile ``share`` of a histogram, estimated as by Prometheus; None for an empty histogram.

    Args:
        counts: Cumulative counts by upper edge.
        share: 0..1.
    """
    edges = sorted(counts)
    if not edges or counts[edges[-1]] <= 0:
        return None
    rank = share * counts[edges[-1]]
    low_edge, low_count = 0.0, 0.0
    for edge in edges:
        if counts[edge] >= rank:
            if math.isinf(edge):
                return low_edge
            inside = counts[edge] - low_count
            return low_edge + (edge - low_edge) * ((rank - low_count) / inside if inside else 1.0)
        low_edge, low_count = edge, counts[edge]
    return low_edge


def _figure(name: str, value: float | None, series: Iterable[float | None]) -> Figure:
    if value is None or not math.isfinite(value):
        return Figure(NAMES[name], "no requests", tuple(series), known=False)
    return Figure(NAMES[name], _shown(name, value), tuple(series))


def _shown(name: str, value: float) -> str:
    if name == "requests":
        return f"{value * 60:.1f} a minute" if value < 1 else f"{value:.1f} a second"
    if name in ("p50", "p99"):
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
    return messages.percent(min(max(value, 0.0), 1.0))


def _split(samples: list[Sample]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split the watch's metrics into those of drift and the others."""
    drift = tuple(sample for sample in samples if sample.name.startswith("buckler_drift_"))
    return drift, tuple(sample for sample in samples if not sample.name.startswith("buckler_drift_"))


def _get(http: httpx.Client, url: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
    try:
        answer = http.get(url, params=query)
        answer.raise_for_status()
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        address = url.partition("/api/")[0]
        raise MetricsUnavailableError(f"Prometheus does not answer at {address} (BUCKLER_PROMETHEUS_URL)") from error
    return result


def _values(result: list[dict[str, Any]]) -> list[Sample]:
    found = []
    for series in result:
        labels = dict(series["metric"])
        value = float(series["value"][1])
        if not math.isnan(value):
            found.append(Sample(labels.pop("__name__", ""), labels, value))
    return found


def _series(result: list[dict[str, Any]], end: float) -> list[float | None]:
    """Return the last hour of one series, one value per step; None for a step without a finite value."""
    if not result:
        return []
    known = {round(float(at)): float(value) for at, value in result[0]["values"]}
    steps = range(HOUR_SECONDS // STEP_SECONDS + 1)
    values = [known.get(round(end - HOUR_SECONDS + STEP_SECONDS * number)) for number in steps]
    return [value if value is not None and math.isfinite(value) else None for value in values]


def _text(http: httpx.Client, url: str, headers: Mapping[str, str]) -> str:
    try:
        answer = http.get(url, headers=headers)
        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise MetricsUnavailableError(
            f"{url} answers {error.response.status_code}; BUCKLER_SCRAPE_KEY_FILE must name a file with a key with the"
            " role operate"
        ) from error
    except httpx.HTTPError as error:
        raise MetricsUnavailableError(f"no answer from {url}") from error
    return answer.text


def _parse(text: str) -> list[Sample]:
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as error:
        raise MetricsUnavailableError(f"expected metrics in Prometheus' text format: {error}") from error
    return [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]
