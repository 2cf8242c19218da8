"""Dashboard *Robustness*: is the champion as robust as its verdict states, and is it under attack?"""

from grafana_foundation_sdk.models.common import BigValueTextMode

from monitoring.grafana.parts import COUNT, GREEN, ORANGE, RATIO, RED, SECONDS, Row, bars, board, lines, states, value

DAY = 86400

CHAMPION = Row(
    "Champion",
    [
        value(
            "Gate",
            "Result of the champion's last re-evaluation",
            "min(buckler_gate_passed)",
            COUNT,
            steps=[(RED, None), (GREEN, 1)],
            words="0=fails;1=passes",
        ),
        value(
            "Standing",
            "State in the registry's signed standing",
            "max by (state) (buckler_standing) == 1",
            COUNT,
            legend="{{state}}",
        ).text_mode(BigValueTextMode.NAME),
        value(
            "Verdict issued",
            "Time since the champion's verdict was issued, or last renewed; negative: after a wrong clock",
            "time() - max(buckler_verdict_issued_timestamp_seconds)",
            SECONDS,
            steps=[(RED, None), (GREEN, -300)],
        ),
        value(
            "Verdict valid for",
            "Including the renewal by the last passed re-evaluation; negative once it has expired",
            "max(buckler_verdict_expiry_timestamp_seconds) - time()",
            SECONDS,
            steps=[(RED, None), (ORANGE, 1), (GREEN, 3 * DAY)],
        ),
        value("Clean accuracy", "Without attack, as last measured", "buckler_clean_accuracy_ratio", RATIO),
        value(
            "Above the floor by",
            "Upper end of the interval minus the floor, smallest over all attacks and radii; below 0 an alert fires",
            "min(min by (instance, radius) (buckler_robust_accuracy_high_ratio)"
            " - on (instance, radius) buckler_robust_accuracy_floor_ratio)",
            RATIO,
            steps=[(RED, None), (GREEN, 0)],
        ),
    ],
)

ATTACKED = Row(
    "Attacked again by the watch, white box",
    [
        lines(
            "Robust accuracy",
            "By attack and radius, as last measured, with the floors of the gate",
            [
                ("buckler_robust_accuracy_ratio", "{{attack}} {{radius}}"),
                ("buckler_robust_accuracy_floor_ratio", "floor at {{radius}}"),
                ("buckler_clean_accuracy_ratio", "clean"),
            ],
            RATIO,
        ),
        bars(
            "Robust accuracy, lower bound",
            "Lower end of the 95 % interval by attack and radius",
            "sort_desc(buckler_robust_accuracy_low_ratio)",
            "{{attack}} {{radius}}",
            RATIO,
            span=6,
        ),
        bars(
            "Robust accuracy, upper bound",
            "Upper end of the 95 % interval by attack and radius; this end is compared with the floor",
            "sort_desc(buckler_robust_accuracy_high_ratio)",
            "{{attack}} {{radius}}",
            RATIO,
            span=6,
        ),
        states(
            "Gate failures",
            "Rules of the policy that the champion broke in the last re-evaluation",
            [("max by (reason) (buckler_gate_failures)", "{{reason}}")],
            "0=met;1=broken",
            [(GREEN, None), (RED, 1)],
            span=24,
        ),
    ],
)

PROBE = Row(
    "Probed through REST, black box",
    [
        lines(
            "Parity",
            "Share of the pictures with the same label from service and offline release; largest probability gap",
            [
                ("min(buckler_probe_parity_ratio)", "same label"),
                ("max(buckler_probe_probability_gap_ratio)", "probability gap"),
            ],
            RATIO,
            span=8,
        ),
        lines(
            "Flagged by the probe",
            "Share of the probe's pictures that were flagged: low for clean ones, high for attacked ones",
            [("max by (pictures) (buckler_probe_flagged_ratio)", "{{pictures}}")],
            RATIO,
            span=8,
        ),
        lines(
            "Robust accuracy through REST",
            "Share of the probe's attacked pictures with the right answer",
            [("min by (attack) (buckler_probe_robust_accuracy_ratio)", "{{attack}}")],
            RATIO,
            span=8,
        ),
        lines(
            "Canary",
            "Share of the canary's pictures with the expected answer",
            [("min(buckler_canary_right_ratio)", "right")],
            RATIO,
        ),
        lines(
            "Canary, time",
            "Duration of the canary's requests",
            [("max(buckler_canary_seconds)", "seconds")],
            SECONDS,
        ),
    ],
)

ATTACKS = Row(
    "Attacks on the traffic",
    [
        lines(
            "Flagged",
            "Share of the pictures of the last 15 minutes and of the last day that the detector flagged",
            [
                ("job:buckler_flagged:ratio_increase15m", "last 15 minutes"),
                ("job:buckler_flagged:ratio_increase1d", "last day"),
            ],
            RATIO,
            steps=[(GREEN, None), (RED, 0.25)],
        ),
        lines(
            "Query attacks",
            "Runs of near-identical pictures from one client, in an hour",
            [("sum(increase(buckler_query_attacks_total[1h]))", "runs")],
            COUNT,
        ),
    ],
)

BOARD = board(
    "buckler-robustness",
    "Robustness",
    "Is the champion as robust as its verdict states, and is it under attack?",
    [CHAMPION, ATTACKED, PROBE, ATTACKS],
)
