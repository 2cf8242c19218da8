import json
from dataclasses import replace

import pytest

from buckler import watch
from buckler.errors import DataError
from buckler.measurements.results import Rate
from buckler.measurements.stated import Measured
from buckler.release.policy import REFUTABLE_KINDS
from buckler.state import paths
from buckler.watch import findings
from tests import projects
from tests.unit.watch.made import metrics


def test_every_job_has_all_its_series_before_its_first_run(here):
    found = metrics(periods=dict.fromkeys(watch.JOBS, 60.0))
    for job in watch.JOBS:
        for outcome in watch.OUTCOMES:
            assert found[f'buckler_watch_runs_total{{job="{job}",outcome="{outcome}"}}'] == 0
        for action in watch.ACTIONS:
            assert found[f'buckler_policy_actions_total{{action="{action}",job="{job}"}}'] == 0
        for name in ("last_success_timestamp_seconds", "last_run_timestamp_seconds", "duration_seconds", "running"):
            assert found[f'buckler_watch_{name}{{job="{job}"}}'] == 0
        assert found[f'buckler_watch_attempts_total{{job="{job}"}}'] == 0
        assert found[f'buckler_watch_period_seconds{{job="{job}"}}'] == 60
    for reason in findings.GATE_REASONS:
        assert found[f'buckler_gate_failures{{reason="{reason}"}}'] == 0
    for state in ("holds", "degraded", "withdrawn"):
        assert found[f'buckler_standing{{state="{state}"}}'] == 0
    assert "buckler_canary_right_ratio" not in found


def test_every_kind_of_gate_failure_is_a_reason_for_the_pinned_and_for_the_newest_pictures():
    for kind in REFUTABLE_KINDS:
        assert {kind, f"newest_{kind}"} <= set(findings.GATE_REASONS)


def test_an_error_is_not_a_success(job):
    job(lambda: watch.Finding(False, "too low"))
    run = watch.run_once("reevaluate")
    before = metrics()

    def broken():
        raise DataError("no test.csv")

    job(broken)
    watch.run_once("reevaluate")
    after = metrics()
    success = 'buckler_watch_last_success_timestamp_seconds{job="reevaluate"}'
    last = 'buckler_watch_last_run_timestamp_seconds{job="reevaluate"}'
    assert before[success] == pytest.approx(run.started_at + run.seconds)
    assert after[success] == before[success]
    assert after[last] > before[last]
    assert after['buckler_watch_runs_total{job="reevaluate",outcome="failed"}'] == 1
    assert after['buckler_watch_runs_total{job="reevaluate",outcome="error"}'] == 1


def test_a_running_job_is_exported_as_running(job):
    seen = {}

    def looking():
        seen.update(metrics())
        return watch.Finding(True, "")

    job(looking)
    watch.run_once("reevaluate")
    assert seen['buckler_watch_running{job="reevaluate"}'] == 1
    assert seen['buckler_watch_running{job="canary"}'] == 0
    assert metrics()['buckler_watch_running{job="reevaluate"}'] == 0


def test_the_finding_of_a_re_evaluation_is_exported_from_disk(here):
    cell = replace(projects.cell(2, 40, 80), name="one-step", robust_accuracy=Rate(0.4, 0.3, 0.5, 100))
    measured = Measured(clean_accuracy=Rate(0.8, 0.7, 0.9, 100), attacks=(cell,))
    watch.write_state(
        "reevaluate",
        {
            "model": {"name": "skin-lesion"},
            "passed": False,
            "failures": ["robust_accuracy", "newest_sensitivity"],
            "floors": {"1": 0.3},
            "measured": measured.document(),
        },
    )
    found = metrics()
    assert found['buckler_gate_passed{model="skin-lesion"}'] == 0
    assert found["buckler_clean_accuracy_ratio"] == 0.8
    assert found['buckler_robust_accuracy_ratio{attack="one-step",radius="2/255"}'] == 0.4
    assert found['buckler_robust_accuracy_low_ratio{attack="one-step",radius="2/255"}'] == 0.3
    assert found['buckler_robust_accuracy_high_ratio{attack="one-step",radius="2/255"}'] == 0.5
    assert found['buckler_robust_accuracy_floor_ratio{radius="1/255"}'] == 0.3
    assert found['buckler_gate_failures{reason="robust_accuracy"}'] == 1
    assert found['buckler_gate_failures{reason="newest_sensitivity"}'] == 1
    assert found['buckler_gate_failures{reason="clean_accuracy"}'] == 0


def test_the_state_of_an_earlier_version_has_no_accuracies_until_the_job_has_run_again(here):
    watch.write_state("reevaluate", {"schema": 2, "passed": True, "failures": [], "cells": [], "clean_accuracy": {}})
    assert not [name for name in metrics() if name.startswith("buckler_robust_accuracy_ratio")]


def test_the_findings_of_canary_and_probe_are_exported(here):
    watch.write_state("canary", {"right_ratio": 0.5, "seconds": 0.25})
    shares = {"clean": 0.1, "transfer": 0.6, "square": 0.8}
    robust = {"transfer": 0.2, "square": 1.0}
    probed = {"parity_ratio": 1.0, "probability_gap": 0.001, "flagged_ratio": shares, "robust_accuracy": robust}
    watch.write_state("probe", probed)
    found = metrics()
    assert (found["buckler_canary_right_ratio"], found["buckler_canary_seconds"]) == (0.5, 0.25)
    assert (found["buckler_probe_parity_ratio"], found["buckler_probe_probability_gap_ratio"]) == (1, 0.001)
    assert found['buckler_probe_flagged_ratio{pictures="square"}'] == 0.8
    assert found['buckler_probe_robust_accuracy_ratio{attack="transfer"}'] == 0.2


def test_a_damaged_state_leaves_the_other_metrics_intact(here):
    paths.WATCH.mkdir(parents=True)
    (paths.WATCH / "reevaluate.json").write_text("{")
    assert 'buckler_watch_duration_seconds{job="reevaluate"}' in metrics()


def test_a_new_state_replaces_the_old_one(here):
    for number in (1, 2):
        watch.write_state("reevaluate", {"number": number})
    assert json.loads((paths.WATCH / "reevaluate.json").read_text()) == {"number": 2}
