"""Dashboard *Serving*: is the service up and fast enough, and what does it answer?"""

from grafana_foundation_sdk.models.common import BigValueTextMode

from buckler.detection.reasons import Reason
from buckler.error_codes import KEY_CODES, ErrorCode
from monitoring.grafana.parts import (
    COUNT,
    GREEN,
    ORANGE,
    PER_SECOND,
    RATIO,
    RED,
    SECONDS,
    Row,
    board,
    heat,
    lines,
    stacked,
    value,
)
from services.classifier import metrics
from services.classifier.endpoints import ENDPOINTS

WITH_PICTURES = f'endpoint=~"{"|".join(ENDPOINTS.picture_labels)}"'
KEY_STATUSES = "|".join(sorted({str(code.status.value) for code in KEY_CODES}))
FAILURES = "\n".join(f"- {code.status.value} {code}: {code.meaning}" for code in ErrorCode if code.status >= 500)
REASONS = "\n".join(f"- {reason}: {reason.meaning}" for reason in Reason)
DAY = 86400
DIFFERENCE = "increase(buckler_shadow_probability_difference_bucket[1h])"

NOW = Row(
    "Now",
    [
        value(
            "Instances up",
            "Instances of the service that Prometheus reaches",
            'sum(up{job="buckler-service"})',
            COUNT,
            steps=[(RED, None), (GREEN, 1)],
            span=3,
        ),
        value(
            "Alerts firing",
            "Alerts of all Buckler's rules; Prometheus' page of alerts lists them",
            'count(ALERTS{alertname=~"Buckler.+", alertstate="firing"}) or vector(0)',
            COUNT,
            steps=[(GREEN, None), (RED, 1)],
            span=3,
        ),
        value(
            "Model",
            "Name and version of the serving model",
            "buckler_model_info == 1",
            COUNT,
            legend="{{model}} {{version}}",
        ).text_mode(BigValueTextMode.NAME),
        value(
            "Standing",
            "State in the registry's signed standing, as followed by the service",
            "max by (state) (buckler_model_standing) == 1",
            COUNT,
            legend="{{state}}",
        ).text_mode(BigValueTextMode.NAME),
        value(
            "Verdict valid for",
            "Time until the verdict of the serving model expires; negative after that, or when no model serves",
            "min(buckler_model_verdict_expiry_timestamp_seconds) - time()",
            SECONDS,
            steps=[(RED, None), (ORANGE, 1), (GREEN, 3 * DAY)],
        ),
        value(
            "Serving for",
            "Time since a worker last swapped its model",
            "time() - max(buckler_release_serving_since_timestamp_seconds)",
            SECONDS,
            span=3,
        ),
        value(
            "Last check",
            "Time since the slowest worker last checked which release to serve; negative: after a wrong clock",
            "time() - min(buckler_release_check_timestamp_seconds)",
            SECONDS,
            steps=[(RED, None), (GREEN, -300), (RED, 600)],
            span=3,
        ),
    ],
)

OBJECTIVES = Row(
    "Objectives (docs/slo.md)",
    [
        value(
            "Availability, 30 days",
            "Share of the requests with pictures that were not answered 5xx; the objective is 99.5 %",
            "1 - job:buckler_predict_errors:ratio_rate30d",
            RATIO,
            steps=[(RED, None), (GREEN, 0.995)],
        ),
        value(
            "Within a second, 30 days",
            "Share of the requests to /predict that were answered within a second; the objective is 99 %",
            "1 - job:buckler_predict_slow:ratio_rate30d",
            RATIO,
            steps=[(RED, None), (GREEN, 0.99)],
        ),
        lines(
            "Error budget left",
            "Remaining share of the failures allowed in 30 days; below 0 the objective is missed",
            [
                ("1 - job:buckler_predict_errors:ratio_rate30d / 0.005", "availability"),
                ("1 - job:buckler_predict_slow:ratio_rate30d / 0.01", "latency"),
            ],
            RATIO,
            steps=[(RED, None), (GREEN, 0)],
            span=8,
        ),
        lines(
            "Burn rate",
            "Speed at which the budget is used up, 1 for 30 days; the lines are the thresholds of alerts",
            [
                ("job:buckler_predict_errors:ratio_rate1h / 0.005", "availability, 1 h"),
                ("job:buckler_predict_errors:ratio_rate6h / 0.005", "availability, 6 h"),
                ("job:buckler_predict_slow:ratio_rate1h / 0.01", "latency, 1 h"),
                ("job:buckler_predict_slow:ratio_rate6h / 0.01", "latency, 6 h"),
            ],
            COUNT,
            steps=[(GREEN, None), (ORANGE, 6), (RED, 14.4)],
            span=8,
        ),
    ],
)

TRAFFIC = Row(
    "Traffic",
    [
        stacked(
            "Requests with pictures",
            "By status code; rejected pictures (4xx) are answers, not errors; "
            f"{metrics.CLIENT_GONE}: the client closed the connection before its answer",
            [
                (
                    f"sum by (code) (rate(buckler_requests_total{{{WITH_PICTURES}}}[$__rate_interval])) > 0",
                    "{{code}}",
                )
            ],
            PER_SECOND,
        ),
        lines(
            "Latency of /predict",
            "Median and 99th percentile of the whole request, and mean time in model and detector",
            [
                ("job:buckler_predict_seconds:p50_rate5m", "p50"),
                ("job:buckler_predict_seconds:p99_rate5m", "p99"),
                (
                    "sum(rate(buckler_inference_seconds_sum[5m])) / sum(rate(buckler_inference_seconds_count[5m]))",
                    "model and detector, mean",
                ),
            ],
            SECONDS,
            steps=[(GREEN, None), (RED, 1)],
        ),
        lines(
            "In progress",
            "Requests with pictures that wait or are being computed, in all workers",
            [("sum(buckler_requests_in_progress)", "in progress")],
            COUNT,
            span=8,
        ),
        lines(
            "Errors and refusals",
            "Share of failed requests with pictures, and rejected requests a second. The service logs the code of each "
            f"failure:\n\n{FAILURES}",
            [
                ("job:buckler_predict_errors:ratio_rate5m", "5xx, share"),
                (
                    f'sum(rate(buckler_requests_total{{code=~"{KEY_STATUSES}"}}[$__rate_interval]))',
                    "no valid key",
                ),
                ('sum(rate(buckler_requests_total{code="429"}[$__rate_interval]))', "over the limit"),
            ],
            COUNT,
            span=8,
        ),
        lines(
            "Connections dropped",
            "Because a client kept the service waiting, or because there were too many connections",
            [("sum by (reason) (rate(buckler_connections_dropped_total[$__rate_interval]))", "{{reason}}")],
            PER_SECOND,
            steps=[(GREEN, None), (RED, 1)],
            span=8,
        ),
    ],
)

DECISIONS = Row(
    "Decisions and detector",
    [
        stacked(
            "Answers by label",
            "Pictures answered a second",
            [("sum by (label) (rate(buckler_predictions_total[$__rate_interval]))", "{{label}}")],
            PER_SECOND,
            span=8,
        ),
        lines(
            "Decisions",
            f"By decision and reason; a picture with two reasons counts under both\n\n{REASONS}",
            [
                (
                    "sum by (decision, reason) (rate(buckler_decisions_total[$__rate_interval]))",
                    "{{decision}} {{reason}}",
                )
            ],
            PER_SECOND,
            span=8,
        ),
        lines(
            "Flagged and reviewed",
            "Share of the pictures of the last 15 minutes, and of the last day; the line is the threshold of an alert",
            [
                ("job:buckler_flagged:ratio_increase15m", "flagged"),
                ("job:buckler_flagged:ratio_increase1d", "flagged, last day"),
                ("job:buckler_review:ratio_increase15m", "for review"),
            ],
            RATIO,
            steps=[(GREEN, None), (RED, 0.25)],
            span=8,
        ),
        heat(
            "Detector score",
            "Distribution of the scores over time; higher is more suspicious",
            "sum by (le) (increase(buckler_detector_score_bucket[$__rate_interval]))",
            span=16,
        ),
        value(
            "Query attacks, last day",
            "Runs of near-identical pictures from one client",
            "sum(increase(buckler_query_attacks_total[1d]))",
            COUNT,
            steps=[(GREEN, None), (ORANGE, 0.5)],
            span=8,
        ),
        lines(
            "Opinions of clinicians",
            "Opinions of the last day about answers of this service, by opinion and by the decision of the answer",
            [("sum by (opinion, decision) (increase(buckler_feedback_total[1d]))", "{{opinion}}, {{decision}}")],
            COUNT,
            span=16,
        ),
        value(
            "Disagreement, last week",
            "Share of the opinions that disagree with the answer, among those that agree or disagree",
            "job:buckler_feedback_disagreement:ratio_increase7d",
            RATIO,
            span=8,
        ),
    ],
)

RELEASES = Row(
    "Releases and shadow",
    [
        lines(
            "Swaps and refusals",
            "Releases swapped in, and releases refused; behind: the service refused the release it should serve",
            [
                ("sum by (model) (increase(buckler_release_swaps_total[15m]))", "swapped to {{model}}"),
                (
                    "sum by (reason) (increase(buckler_model_refused_total[15m])) > 0 or vector(0)",
                    "refused, {{reason}}",
                ),
                ("max(buckler_release_behind)", "behind"),
                ("sum(increase(buckler_shadow_refused_total[15m]))", "shadow refused"),
            ],
            COUNT,
        ),
        lines(
            "Challenger against champion",
            "Share of the compared pictures with different answers",
            [("job:buckler_shadow_disagreements:ratio_increase1h", "{{about}}")],
            RATIO,
        ),
        lines(
            "Pictures of the shadow",
            "Compared, dropped because the shadow was busy, or failed",
            [("sum by (outcome) (increase(buckler_shadow_pictures_total[15m]))", "{{outcome}}")],
            COUNT,
        ),
        lines(
            "Probability difference",
            "Upper bound for 95 % and for half of the compared pictures",
            [
                (f"histogram_quantile({share}, sum by (le) ({DIFFERENCE}))", f"{100 * share:.0f} %")
                for share in (0.95, 0.5)
            ],
            COUNT,
        ),
    ],
)

BOARD = board(
    "buckler-serving",
    "Serving",
    "Is the service up and fast enough, and what does it answer?",
    [NOW, OBJECTIVES, TRAFFIC, DECISIONS, RELEASES],
)
