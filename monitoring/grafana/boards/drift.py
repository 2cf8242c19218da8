"""Dashboard *Drift*: are the pictures still like those that the model was calibrated on?"""

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
            "Kinds of drift that the last window shows",
            "sum(buckler_drift_detected)",
            COUNT,
            steps=[(GREEN, None), (ORANGE, 1)],
        ),
        value(
            "Pictures in the window",
            "Few pictures show little: the job says so",
            "max(buckler_drift_window_pictures)",
            COUNT,
        ),
        value(
            "Looked at",
            "Time since the job drift last completed",
            'time() - max(buckler_watch_last_success_timestamp_seconds{exported_job="drift"})',
            SECONDS,
        ),
        value(
            "Smallest p",
            "Probability of the least likely kind if nothing had changed, corrected for the number of tests",
            "min(buckler_drift_p_value_ratio)",
            COUNT,
            steps=[(RED, None), (GREEN, 0.01)],
        ).decimals(4),
        value(
            "Largest distance",
            "Of any quantity, between the window and the calibration pictures",
            "max(buckler_drift_distance_ratio)",
            COUNT,
        ).decimals(3),
        value(
            "Statistics dropped, last hour",
            "Answered pictures that drift cannot see",
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
            "By kind: what comes in, what the network sees in it, what it answers, what the detector makes of it",
            [("max by (kind) (buckler_drift_detected)", "{{kind}}")],
            "0=as calibrated;1=drift",
            [(GREEN, None), (ORANGE, 1)],
        ),
        lines(
            "p by kind",
            "After correction for many tests; low is unlikely to be chance",
            [("min by (kind) (buckler_drift_p_value_ratio)", "{{kind}}")],
            COUNT,
        ),
        bars(
            "Distance",
            "Of each quantity, last window",
            "sort_desc(max by (quantity) (buckler_drift_distance_ratio))",
            "{{quantity}}",
            COUNT,
            span=12,
        ),
        lines(
            "Distance over time",
            "A jump is a device or a release, a slope is patients or seasons",
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
            "Answered pictures whose statistics are kept, and those that were dropped",
            [
                ("sum(rate(buckler_traffic_recorded_total[$__rate_interval]))", "recorded"),
                ("sum(rate(buckler_traffic_dropped_total[$__rate_interval]))", "dropped"),
            ],
            PER_SECOND,
            span=8,
        ),
        stacked(
            "Share of the labels",
            "Of the answers of the last hour",
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
            "Share of the pictures of the last 15 minutes that a person has to look at",
            [("job:buckler_review:ratio_increase15m", "for review")],
            RATIO,
            span=8,
        ),
        heat(
            "Detector score",
            "Distribution of the scores over time; a band that moves as a whole is drift, a second band is an attack",
            "sum by (le) (increase(buckler_detector_score_bucket[$__rate_interval]))",
            span=24,
        ),
    ],
)

BOARD = board(
    "buckler-drift",
    "Drift",
    "Are the pictures still like those that the model was calibrated on?",
    [LAST, TESTS, TRAFFIC],
)
