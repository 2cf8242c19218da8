"""Dashboard *Robustness*: does the champion still withstand what its verdict says, and does anybody attack it?"""

from grafana_foundation_sdk.models.common import BigValueTextMode

from monitoring.grafana.parts import COUNT, GREEN, ORANGE, RATIO, RED, SECONDS, Row, bars, board, lines, states, value

DAY = 86400

CHAMPION = Row(
    "Champion",
    [
        value(
            "Gate",
            "The champion's last re-evaluation",
            "min(buckler_gate_passed)",
            COUNT,
            steps=[(RED, None), (GREEN, 1)],
            words="0=fails;1=passes",
        ),
        value(
            "Standing",
            "What the registry's signed standing says",
            "max by (state) (buckler_standing) == 1",
            COUNT,
            legend="{{state}}",
        ).text_mode(BigValueTextMode.NAME),
        value(
            "Verdict issued",
            "Time since somebody last vouched for the champion: when it was judged, or renewed by a re-evaluation",
            "time() - max(buckler_verdict_issued_timestamp_seconds)",
            SECONDS,
        ),
        value(
            "Verdict holds for",
            "As renewed by the last re-evaluation that it passed; negative once it has expired",
            "max(buckler_verdict_expiry_timestamp_seconds) - time()",
            SECONDS,
            steps=[(RED, None), (ORANGE, 1), (GREEN, 3 * DAY)],
        ),
        value("Clean accuracy", "Without attack, when last measured", "buckler_clean_accuracy_ratio", RATIO),
        value(
            "Above the floor by",
            "Upper end of the interval less the floor, where it is least; below 0 an alert fires",
            "min(min by (instance, epsilon_255) (buckler_robust_accuracy_high_ratio)"
            " - on (instance, epsilon_255) buckler_robust_accuracy_floor_ratio)",
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
            "By attack and radius in 1/255, as last measured, with the floors of the gate",
            [
                ("buckler_robust_accuracy_ratio", "{{attack}} {{epsilon_255}}/255"),
                ("buckler_robust_accuracy_floor_ratio", "floor at {{epsilon_255}}/255"),
                ("buckler_clean_accuracy_ratio", "clean"),
            ],
            RATIO,
        ),
        bars(
            "Robust accuracy, lower bound",
            "Lower end of the 95 % interval by attack and radius in 1/255",
            "sort_desc(buckler_robust_accuracy_low_ratio)",
            "{{attack}} {{epsilon_255}}/255",
            RATIO,
            span=6,
        ),
        bars(
            "Robust accuracy, upper bound",
            "Upper end of the 95 % interval by attack and radius in 1/255; this end is compared with the floor",
            "sort_desc(buckler_robust_accuracy_high_ratio)",
            "{{attack}} {{epsilon_255}}/255",
            RATIO,
            span=6,
        ),
        states(
            "Gate failures",
            "Which rules of the policy the champion broke when last attacked again",
            [("max by (reason) (buckler_gate_failures)", "{{reason}}")],
            "0=holds;1=broken",
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
            "Share of the pictures that service and release label alike, and the largest gap of a probability",
            [
                ("min(buckler_probe_parity_ratio)", "same label"),
                ("max(buckler_probe_probability_gap_ratio)", "probability gap"),
            ],
            RATIO,
            span=8,
        ),
        lines(
            "Flagged by the probe",
            "Share of its pictures that were flagged: clean ones should not be, attacked ones should",
            [("max by (pictures) (buckler_probe_flagged_ratio)", "{{pictures}}")],
            RATIO,
            span=8,
        ),
        lines(
            "Robust accuracy through REST",
            "Share of its attacked pictures that are still answered right",
            [("min by (attack) (buckler_probe_robust_accuracy_ratio)", "{{attack}}")],
            RATIO,
            span=8,
        ),
        lines(
            "Canary",
            "Share of the known pictures that are answered as known",
            [("min(buckler_canary_right_ratio)", "right")],
            RATIO,
        ),
        lines(
            "Canary, time",
            "How long its pictures took",
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
            "Share of the pictures of the last 15 minutes and of the last day that the detector flags",
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
    "Does the champion still withstand what its verdict says, and does anybody attack it?",
    [CHAMPION, ATTACKED, PROBE, ATTACKS],
)
