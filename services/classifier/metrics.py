"""Metrics of the service for Prometheus, summed over its workers.

Each worker writes a file of its own, and the one that is scraped adds up all files. This multi-process mode of
prometheus_client supports only plain counters, gauges and histograms. Labels come from closed sets, and series exist
from the start, so that a rate includes the first event.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from buckler.detection.reasons import Reason
from buckler.serving.assessment import ReasonCode
from buckler.trust.standing import STATES
from services.classifier.contract import Decision, Opinion
from services.classifier.routing import Table

if TYPE_CHECKING:
    from buckler.serving.predictor import Prediction
    from services.classifier.served import Served

CLIENT_GONE = "499"  # nginx's code for a client that closed the connection before its answer
NO_REASON = "none"
UNAVAILABLE = ReasonCode.UNAVAILABLE
REFUSED_REASONS = tuple(ReasonCode)
FETCHED, FROM_MEMORY = "fetched", "memory"
COMPARED, DROPPED, FAILED = "compared", "dropped", "failed"
COMPARED_ABOUT = ("label", "decision", "detector")

REQUESTS = Counter("buckler_requests_total", "HTTP requests answered", ["endpoint", "code"])
SLOW_HEAD, SLOW_ANSWER, TOO_MANY = "slow_head", "slow_answer", "too_many"
CONNECTIONS_DROPPED = Counter(
    "buckler_connections_dropped_total",
    "Connections closed because the client was too slow or there were too many",
    ["reason"],
)
REQUEST_SECONDS = Histogram(
    "buckler_request_seconds",
    "Time from the head of a request to the end of its answer",
    ["endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_PROGRESS = Gauge(
    "buckler_requests_in_progress",
    "Requests with pictures in progress, waiting or computed, in all workers",
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
FEEDBACK = Counter(
    "buckler_feedback_total",
    "Opinions of clinicians about answers, by the decision of the answer",
    ["opinion", "decision"],
)
DETECTOR_SCORE = Histogram(
    "buckler_detector_score",
    "Score of the adversarial-input detector; higher is more suspicious",
    # Log-odds: most clean pictures lie below zero, and its `_sum` may fall.
    buckets=(-16, -8, -6, -4, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 6, 8, 16, 32),
)
QUERY_ATTACKS = Counter(
    "buckler_query_attacks_total",
    "Runs of near-identical pictures from one client, typical of a search for an adversarial picture",
)
MODEL_INFO = Gauge(
    "buckler_model_info",
    "1 for the live model",
    ["model", "version", "digest"],
    multiprocess_mode="livemax",
)
VERDICT_EXPIRY = Gauge(
    "buckler_model_verdict_expiry_timestamp_seconds",
    "Time at which the verdict of the live model expires, renewals included; 0 without a model",
    multiprocess_mode="livemax",
)
STANDING = Gauge(
    "buckler_model_standing",
    "1 for the state of the live model: its verdict holds, its answers need review, or it is withdrawn",
    ["state"],
    multiprocess_mode="livemax",
)
MODEL_REFUSED = Counter("buckler_model_refused_total", "Releases that a worker refused to load, by reason", ["reason"])
SWAPS = Counter(
    "buckler_release_swaps_total",
    "Replacements of the live model while a worker runs, by a fetched model or one still in memory",
    ["model"],
)
CHECKED = Gauge(
    "buckler_release_check_timestamp_seconds",
    "Time of the last successful check for a new release, the earliest over all workers; 0 for never",
    multiprocess_mode="livemin",
)
SERVING_SINCE = Gauge(
    "buckler_release_serving_since_timestamp_seconds",
    "Time at which a worker last replaced its model; 0 without a model",
    multiprocess_mode="livemax",
)
BEHIND = Gauge(
    "buckler_release_behind",
    "1 while a worker refuses the current release and serves the last good one or none",
    multiprocess_mode="livemax",
)
SHADOW_PICTURES = Counter(
    "buckler_shadow_pictures_total",
    "Answered pictures in the challenger's share: compared, dropped because it was busy, or failed",
    ["outcome"],
)
SHADOW_DISAGREEMENTS = Counter(
    "buckler_shadow_disagreements_total",
    "Compared pictures with different answers of challenger and champion, by what differs",
    ["about"],
)
SHADOW_DIFFERENCE = Histogram(
    "buckler_shadow_probability_difference",
    "Largest difference in the probability of a label between challenger and champion",
    buckets=(0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1),
)
SHADOW_REFUSED = Counter(
    "buckler_shadow_refused_total", "Challengers that a worker refused to load, by reason", ["reason"]
)

TRAFFIC_RECORDED = Counter(
    "buckler_traffic_recorded_total", "Answered pictures whose measurements were written to the traffic database"
)
TRAFFIC_DROPPED = Counter(
    "buckler_traffic_dropped_total",
    "Answered pictures not written, because the database failed or too many came at once",
)


def create_series(table: Table) -> None:
    """Create at zero all series whose labels do not depend on the model."""
    for label in table.labels:
        REQUESTS.labels(endpoint=label, code="200")
        REQUEST_SECONDS.labels(endpoint=label)
    for row in table:
        for code in {str(error.status.value) for error in row.error_codes}:
            REQUESTS.labels(endpoint=row.label, code=code)
        if row.pictures:
            REQUESTS.labels(endpoint=row.label, code=CLIENT_GONE)
    DECISIONS.labels(decision="accept", reason=NO_REASON)
    review: Decision = "review"
    for reason in Reason:
        DECISIONS.labels(decision=review, reason=reason)
    for opinion in get_args(Opinion):
        for decision in get_args(Decision):
            FEEDBACK.labels(opinion=opinion, decision=decision)
    for cause in (SLOW_HEAD, SLOW_ANSWER, TOO_MANY):
        CONNECTIONS_DROPPED.labels(reason=cause)
    for cause in REFUSED_REASONS:
        MODEL_REFUSED.labels(reason=cause)
        SHADOW_REFUSED.labels(reason=cause)
    for outcome in (COMPARED, DROPPED, FAILED):
        SHADOW_PICTURES.labels(outcome=outcome)
    for about in COMPARED_ABOUT:
        SHADOW_DISAGREEMENTS.labels(about=about)
    for state in STATES:
        STANDING.labels(state=state)
    for origin in (FETCHED, FROM_MEMORY):
        SWAPS.labels(model=origin)


def show_model(served: "Served", before: "Served | None" = None) -> None:
    """Export ``served`` as the live model, in place of ``before``."""
    if before:
        MODEL_INFO.labels(model=before.name, version=before.version, digest=before.predictor.digest).set(0)
    SERVING_SINCE.set_to_current_time()
    predictor = served.predictor
    MODEL_INFO.labels(model=served.name, version=served.version, digest=predictor.digest).set(1)
    show_standing(served)
    for label in predictor.labels:
        PREDICTIONS.labels(label=label)


def show_standing(served: "Served") -> None:
    """Export state and expiry of the live model's verdict."""
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
    """Count one comparison: which of ``COMPARED_ABOUT`` differ, and the largest difference of probabilities."""
    SHADOW_PICTURES.labels(outcome=COMPARED).inc()
    SHADOW_DIFFERENCE.observe(difference)
    for about, yes in differs.items():
        SHADOW_DISAGREEMENTS.labels(about=about).inc(yes)


def exposition() -> bytes:
    """Return the sum over all workers in Prometheus' text format."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return generate_latest()
    forget_dead_workers(Path(directory))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_dead_workers(directory: Path) -> None:
    """Remove the gauges of workers that were killed; their counters stay."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            mark_process_dead(int(pid), path=str(directory))  # type: ignore[no-untyped-call]
