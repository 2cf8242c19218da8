"""Dashboard *Jobs*: does the watch run what it should, when it should, and what did it do?"""

from monitoring.grafana.parts import COUNT, GREEN, ORANGE, RED, SECONDS, Row, bars, board, lines, states, value

NOW = Row(
    "Now",
    [
        value(
            "Watch up",
            "Whether Prometheus reaches the watch",
            'sum(up{job="buckler-watch"})',
            COUNT,
            steps=[(RED, None), (GREEN, 1)],
        ),
        value(
            "Alerts firing",
            "Alerts of all Buckler's rules; Prometheus' page of alerts says which",
            'count(ALERTS{alertname=~"Buckler.+", alertstate="firing"}) or vector(0)',
            COUNT,
            steps=[(GREEN, None), (RED, 1)],
        ),
        value(
            "Never completed",
            "Jobs that have not completed once",
            "sum(buckler_watch_last_success_timestamp_seconds == bool 0)",
            COUNT,
            steps=[(GREEN, None), (ORANGE, 1)],
        ),
        value(
            "Running",
            "Jobs that run now",
            "sum(buckler_watch_running)",
            COUNT,
        ),
        value(
            "Errors, last day",
            "Runs that ended without a result",
            'sum(increase(buckler_watch_runs_total{outcome="error"}[1d]))',
            COUNT,
            steps=[(GREEN, None), (ORANGE, 0.5)],
        ),
        value(
            "Actions, last day",
            "What followed from failed jobs by policy",
            "sum(increase(buckler_policy_actions_total[1d]))",
            COUNT,
            steps=[(GREEN, None), (ORANGE, 0.5)],
        ),
    ],
)

SCHEDULE = Row(
    "Schedule",
    [
        bars(
            "Last completed",
            "Time since each job had a result, good or bad",
            "time() - (buckler_watch_last_success_timestamp_seconds > 0)",
            "{{exported_job}}",
            SECONDS,
        ),
        bars(
            "Last ended",
            "Time since each job ended, in an error too",
            "time() - (buckler_watch_last_run_timestamp_seconds > 0)",
            "{{exported_job}}",
            SECONDS,
        ),
        lines(
            "Age in periods",
            "Time since a job completed over the longest time between two of its runs; above 1.1 it is late",
            [
                (
                    "(time() - (buckler_watch_last_success_timestamp_seconds > 0)) / buckler_watch_period_seconds",
                    "{{exported_job}}",
                )
            ],
            COUNT,
            steps=[(GREEN, None), (RED, 1.1)],
            span=8,
        ),
        states(
            "Running",
            "When each job ran",
            [("max by (exported_job) (buckler_watch_running)", "{{exported_job}}")],
            "0=idle;1=runs",
            [("transparent", None), ("blue", 1)],
            span=24,
        ),
    ],
)

RUNS = Row(
    "Runs",
    [
        lines(
            "Runs a day",
            "By outcome: passed, failed (a result that is not good), error (no result)",
            [
                (
                    "sum by (exported_job, outcome) (increase(buckler_watch_runs_total[1d]))",
                    "{{exported_job}} {{outcome}}",
                )
            ],
            COUNT,
        ),
        lines(
            "Duration",
            "Of each job's last finished run",
            [("max by (exported_job) (buckler_watch_duration_seconds)", "{{exported_job}}")],
            SECONDS,
        ),
        lines(
            "Attempts a day",
            "More than runs: some were tried again after an error",
            [("sum by (exported_job) (increase(buckler_watch_attempts_total[1d]))", "{{exported_job}}")],
            COUNT,
        ),
        lines(
            "Actions",
            "What followed from failed jobs by policy, in an hour",
            [
                (
                    "sum by (exported_job, action) (increase(buckler_policy_actions_total[1h]))",
                    "{{exported_job}}: {{action}}",
                )
            ],
            COUNT,
        ),
    ],
)

BOARD = board(
    "buckler-jobs",
    "Jobs",
    "Does the watch run what it should, when it should, and what did it do?",
    [NOW, SCHEDULE, RUNS],
)
