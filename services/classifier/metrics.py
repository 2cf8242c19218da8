"""What Prometheus sees of the service; right with several workers.

Only plain counters, gauges and histograms: prometheus_client's multi-process mode, in which each worker
writes its own file and any of them adds all files up, has no others. Labels come from closed sets and series
exist from the start, so that a rate over the first event is seen.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.requests import Request
from starlette.responses import Response

from buckler.detection.reasons import Reason
from buckler.errors import VerdictError
from buckler.trust.standing import STATES
from services.classifier.contract import ERRORS, Decision
from services.classifier.endpoints import ASKED, ENDPOINTS, METRICS

if TYPE_CHECKING:
    from buckler.serving.predictor import Prediction
    from services.classifier.served import Served
CLIENT_GONE = "499"  # nginx's code for a client that hung up before its answer
NO_REASON = "none"
UNAVAILABLE = "unavailable"
SELF_TEST = "self_test"
REFUSED_REASONS = (*VerdictError.REASONS, SELF_TEST, UNAVAILABLE)
FETCHED, FROM_MEMORY = "fetched", "memory"
COMPARED, DROPPED, FAILED = "compared", "dropped", "failed"
COMPARED_ABOUT = ("label", "decision", "detector")

REQUESTS = Counter("buckler_requests_total", "HTTP requests answered", ["endpoint", "code"])
SLOW_HEAD, SLOW_ANSWER, TOO_MANY = "slow_head", "slow_answer", "too_many"
CONNECTIONS_DROPPED = Counter(
    "buckler_connections_dropped_total",
    "Connections closed because the client kept the service waiting, or because there were too many",
    ["reason"],
)
REQUEST_SECONDS = Histogram(
    "buckler_request_seconds",
    "Time from a request's head to the end of its answer",
    ["endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_PROGRESS = Gauge(
    "buckler_requests_in_progress",
    "Requests with pictures that are in the works, waiting for the model or computed; of all workers",
    multiprocess_mode="livesum",
)
INFERENCE_SECONDS = Histogram(
    "buckler_inference_seconds",
    "Time of one picture in model and detector",
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
PREDICTIONS = Counter("buckler_predictions_total", "Answered pictures by label", ["label"])
DECISIONS = Counter(
    "buckler_decisions_total",
    "Answered pictures by decision and reason; one with two reasons counts under both",
    ["decision", "reason"],
)
DETECTOR_SCORE = Histogram(
    "buckler_detector_score",
    "Score of the adversarial-input detector; higher is more suspicious",
    # Log-odds: most clean pictures lie below zero, and its `_sum` may fall.
    buckets=(-16, -8, -6, -4, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 6, 8, 16, 32),
)
QUERY_ATTACKS = Counter(
    "buckler_query_attacks_total",
    "Runs of near-identical pictures from one client, as a search for an adversarial one makes them",
)
MODEL_INFO = Gauge(
    "buckler_model_info",
    "1 for the model that serves",
    ["model", "version", "digest"],
    multiprocess_mode="livemax",
)
VERDICT_EXPIRY = Gauge(
    "buckler_model_verdict_expiry_timestamp_seconds",
    "When the verdict of the model that serves expires, as renewed; 0 while none serves",
    multiprocess_mode="livemax",
)
STANDING = Gauge(
    "buckler_model_standing",
    "1 for where the model that serves stands: its verdict holds, every answer is to be reviewed, or there is none",
    ["state"],
    multiprocess_mode="livemax",
)
MODEL_REFUSED = Counter("buckler_model_refused_total", "Releases that a worker would not load, by reason", ["reason"])
SWAPS = Counter(
    "buckler_release_swaps_total",
    "Models that took another's place while a worker ran, fetched anew or still in memory",
    ["model"],
)
CHECKED = Gauge(
    "buckler_release_check_timestamp_seconds",
    "When a worker last found out which release is to serve, the oldest of all workers' times; 0 for never",
    multiprocess_mode="livemin",
)
SERVING_SINCE = Gauge(
    "buckler_release_serving_since_timestamp_seconds",
    "When a worker last began to serve another model; 0 while none serves",
    multiprocess_mode="livemax",
)
BEHIND = Gauge(
    "buckler_release_behind",
    "1 while some worker refuses the release that is to serve, and serves the last good one or none",
    multiprocess_mode="livemax",
)
SHADOW_PICTURES = Counter(
    "buckler_shadow_pictures_total",
    "Answered pictures that fell into the challenger's share: compared, dropped because it was busy, failed",
    ["outcome"],
)
SHADOW_DISAGREEMENTS = Counter(
    "buckler_shadow_disagreements_total",
    "Compared pictures on which the challenger says something else than the champion",
    ["about"],
)
SHADOW_DIFFERENCE = Histogram(
    "buckler_shadow_probability_difference",
    "Largest difference of a label's probability between challenger and champion",
    buckets=(0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1),
)
SHADOW_REFUSED = Counter(
    "buckler_shadow_refused_total", "Challengers that a worker would not load as a shadow, by reason", ["reason"]
)

TRAFFIC_RECORDED = Counter(
    "buckler_traffic_recorded_total", "Answered pictures whose numbers were written to the traffic's database"
)
TRAFFIC_DROPPED = Counter(
    "buckler_traffic_dropped_total",
    "Answered pictures that were not, because the database was away or too many came at once",
)


def create_series() -> None:
    """Create at zero every series whose labels are known before a model is."""
    for endpoint in ENDPOINTS:
        REQUESTS.labels(endpoint=endpoint, code="200")
        REQUEST_SECONDS.labels(endpoint=endpoint)
    for code in sorted({str(status.value) for status, _ in ERRORS.values()} | {CLIENT_GONE}):
        for endpoint in ASKED:
            REQUESTS.labels(endpoint=endpoint, code=code)
    for code in ("401", "403"):
        REQUESTS.labels(endpoint=METRICS, code=code)
    DECISIONS.labels(decision="accept", reason=NO_REASON)
    review: Decision = "review"
    for reason in Reason:
        DECISIONS.labels(decision=review, reason=reason)
    for reason in (SLOW_HEAD, SLOW_ANSWER, TOO_MANY):
        CONNECTIONS_DROPPED.labels(reason=reason)
    for reason in REFUSED_REASONS:
        MODEL_REFUSED.labels(reason=reason)
        SHADOW_REFUSED.labels(reason=reason)
    for outcome in (COMPARED, DROPPED, FAILED):
        SHADOW_PICTURES.labels(outcome=outcome)
    for about in COMPARED_ABOUT:
        SHADOW_DISAGREEMENTS.labels(about=about)
    for state in STATES:
        STANDING.labels(state=state)
    for origin in (FETCHED, FROM_MEMORY):
        SWAPS.labels(model=origin)


def show_model(served: "Served", before: "Served | None" = None) -> None:
    """Export which model serves, in whose place, since when, and until when its verdict holds."""
    if before:
        MODEL_INFO.labels(model=before.name, version=before.version, digest=before.predictor.digest).set(0)
    SERVING_SINCE.set_to_current_time()
    predictor = served.predictor
    MODEL_INFO.labels(model=served.name, version=served.version, digest=predictor.digest).set(1)
    show_standing(served)
    for label in predictor.labels:
        PREDICTIONS.labels(label=label)


def show_standing(served: "Served") -> None:
    """Export whether the verdict of the model that serves still counts, and until when."""
    VERDICT_EXPIRY.set(served.expires_at.timestamp())
    for state in STATES:
        STANDING.labels(state=state).set(state == served.state)


def count(prediction: "Prediction") -> None:
    """Count one answered picture."""
    PREDICTIONS.labels(label=prediction.label).inc()
    for reason in prediction.reasons or (NO_REASON,):
        DECISIONS.labels(decision=prediction.decision, reason=reason).inc()
    DETECTOR_SCORE.observe(prediction.score)


def count_shadow(differs: Mapping[str, bool], difference: float) -> None:
    """Count one comparison: by what of ``COMPARED_ABOUT`` differs, and by how much the probabilities do."""
    SHADOW_PICTURES.labels(outcome=COMPARED).inc()
    SHADOW_DIFFERENCE.observe(difference)
    for about, yes in differs.items():
        SHADOW_DISAGREEMENTS.labels(about=about).inc(yes)


def page(_: Request) -> Response:
    """Answer a scrape: the sum over all workers, whichever of them is asked."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
    forget_dead_workers(Path(directory))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def forget_dead_workers(directory: Path) -> None:
    """Drop the gauges of workers that were killed; what they counted stays counted."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            mark_process_dead(int(pid), path=str(directory))  # type: ignore[no-untyped-call]
