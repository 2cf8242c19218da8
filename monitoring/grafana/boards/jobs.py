"""Dashboard *Jobs*: do the watch's jobs run on schedule, and with which results?"""

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
            "Alerts of all Buckler's rules; Prometheus' page of alerts lists them",
            'count(ALERTS{alertname=~"Buckler.+", alertstate="firing"}) or vector(0)',
            COUNT,
            steps=[(GREEN, None), (RED, 1)],
        ),
        value(
            "Never completed",
            "Number of jobs that have not completed once",
            "sum(buckler_watch_last_success_timestamp_seconds == bool 0)",
            COUNT,
            steps=[(GREEN, None), (ORANGE, 1)],
        ),
        value(
            "Running",
            "Number of jobs that run now",
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
            "Actions by policy after failed jobs",
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
            "Time since each job last had a result, passed or failed; negative: in the future, after a wrong clock",
            "time() - (buckler_watch_last_success_timestamp_seconds > 0)",
            "{{exported_job}}",
            SECONDS,
        ),
        bars(
            "Last ended",
            "Time since each job last ended, including errors",
            "time() - (buckler_watch_last_run_timestamp_seconds > 0)",
            "{{exported_job}}",
            SECONDS,
        ),
        lines(
            "Age in periods",
            "Time since a job completed, divided by the longest time between two of its runs; above 1.1 it is late; "
            "below 0 it completed in the future, after a wrong clock",
            [
                (
                    "(time() - (buckler_watch_last_success_timestamp_seconds > 0)) / buckler_watch_period_seconds",
                    "{{exported_job}}",
                )
            ],
            COUNT,
            steps=[(RED, None), (GREEN, -5), (RED, 1.1)],
            span=8,
        ),
        states(
            "Running",
            "When each job ran",
            [("max by (exported_job) (buckler_watch_running)", "{{exported_job}}")],
            "0=idle;1=running",
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
            "By outcome: passed, failed, error (no result)",
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
            "Duration of each job's last finished run",
            [("max by (exported_job) (buckler_watch_duration_seconds)", "{{exported_job}}")],
            SECONDS,
        ),
        lines(
            "Attempts a day",
            "Higher than the number of runs where jobs were retried after an error",
            [("sum by (exported_job) (increase(buckler_watch_attempts_total[1d]))", "{{exported_job}}")],
            COUNT,
        ),
        lines(
            "Actions",
            "Actions by policy after failed jobs, in an hour",
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
    "Do the watch's jobs run on schedule, and with which results?",
    [NOW, SCHEDULE, RUNS],
)
