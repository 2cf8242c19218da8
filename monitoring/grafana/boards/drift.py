"""Dashboard *Drift*: are the served pictures still like the calibration pictures?"""

from monitoring.grafana.parts import (
    COUNT,
    GREEN,
    ORANGE,
    PER_SECOND,
    RATIO,
    RED,
    SECONDS,
    Row,
    bars,
    board,
    heat,
    lines,
    stacked,
    states,
    value,
)

LAST = Row(
    "Last window",
    [
        value(
            "Drift",
            "Number of kinds of drift in the last window",
            "sum(buckler_drift_detected)",
            COUNT,
            steps=[(GREEN, None), (ORANGE, 1)],
        ),
        value(
            "Pictures in the window",
            "With few pictures the tests detect little; the job reports this",
            "max(buckler_drift_window_pictures)",
            COUNT,
        ),
        value(
            "Last check",
            "Time since the job drift last completed; negative: in the future, after a wrong clock",
            'time() - max(buckler_watch_last_success_timestamp_seconds{exported_job="drift"})',
            SECONDS,
            steps=[(RED, None), (GREEN, -300)],
        ),
        value(
            "Smallest p",
            "Smallest p-value of all kinds, corrected for the number of tests",
            "min(buckler_drift_p_value_ratio)",
            COUNT,
            steps=[(RED, None), (GREEN, 0.01)],
        ).decimals(4),
        value(
            "Largest distance",
            "Largest distance of any quantity between the window and the calibration pictures",
            "max(buckler_drift_distance_ratio)",
            COUNT,
        ).decimals(3),
        value(
            "Statistics dropped, last hour",
            "Answered pictures without stored statistics, which the job drift misses",
            "sum(increase(buckler_traffic_dropped_total[1h]))",
            COUNT,
            steps=[(GREEN, None), (ORANGE, 1)],
        ),
    ],
)

TESTS = Row(
    "Against the calibration pictures",
    [
        states(
            "Detected",
            "By kind: inputs, features, predictions, detector scores",
            [("max by (kind) (buckler_drift_detected)", "{{kind}}")],
            "0=as calibrated;1=drift",
            [(GREEN, None), (ORANGE, 1)],
        ),
        lines(
            "p by kind",
            "p-value by kind, corrected for the number of tests; a low value is unlikely to be chance",
            [("min by (kind) (buckler_drift_p_value_ratio)", "{{kind}}")],
            COUNT,
        ),
        bars(
            "Distance",
            "Distance of each quantity from the calibration pictures, last window",
            "sort_desc(max by (quantity) (buckler_drift_distance_ratio))",
            "{{quantity}}",
            COUNT,
            span=12,
        ),
        lines(
            "Distance over time",
            "A jump suggests a device or a release, a slope patients or seasons",
            [("max by (quantity) (buckler_drift_distance_ratio)", "{{quantity}}")],
            COUNT,
        ),
    ],
)

TRAFFIC = Row(
    "Traffic",
    [
        lines(
            "Statistics recorded",
            "Answered pictures whose statistics were stored, and those whose were dropped",
            [
                ("sum(rate(buckler_traffic_recorded_total[$__rate_interval]))", "recorded"),
                ("sum(rate(buckler_traffic_dropped_total[$__rate_interval]))", "dropped"),
            ],
            PER_SECOND,
            span=8,
        ),
        stacked(
            "Share of the labels",
            "Share of each label in the answers of the last hour",
            [
                (
                    "sum by (label) (increase(buckler_predictions_total[1h]))"
                    " / on () group_left () (sum(increase(buckler_predictions_total[1h])) > 0)",
                    "{{label}}",
                )
            ],
            RATIO,
            span=8,
        ),
        lines(
            "For review",
            "Share of the pictures of the last 15 minutes with the decision review",
            [("job:buckler_review:ratio_increase15m", "for review")],
            RATIO,
            span=8,
        ),
        heat(
            "Detector score",
            "Distribution of the scores over time; a band that moves as a whole suggests drift, a second one an attack",
            "sum by (le) (increase(buckler_detector_score_bucket[$__rate_interval]))",
            span=24,
        ),
    ],
)

BOARD = board(
    "buckler-drift",
    "Drift",
    "Are the served pictures still like the calibration pictures?",
    [LAST, TESTS, TRAFFIC],
)
