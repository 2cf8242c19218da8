"""Parity of the exported network in the gate."""

import dataclasses
import json
import math

import pytest

from buckler.measurements.results import Parity, ParityPolicy
from buckler.release.evidence import read_evidence
from buckler.release.gate import decide
from tests.unit.release.policies import POLICY

PARITY_POLICY = ParityPolicy(0.99, 0.03, 0.01, 0.01)
PARITY = Parity(300, 0.99, 0.03, 0.01, 0.01)


def test_a_runtime_on_the_limits_of_parity_may_serve():
    assert PARITY.failures(PARITY_POLICY) == ()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("label_agreement", 0.9867, "label agreement 0.9867 < 0.99"),
        ("probability_gap", 0.0301, "probability gap 0.0301 > 0.03"),
        ("robust_accuracy_gap", 0.0133, "robust accuracy gap 0.0133 > 0.01"),
        ("detector_auc_gap", 0.02, "detector auc gap 0.0200 > 0.01"),
    ],
)
def test_each_exceeded_parity_limit_is_named_nan_included(field, value, sentence):
    assert dataclasses.replace(PARITY, **{field: value}).failures(PARITY_POLICY) == (sentence,)
    assert len(dataclasses.replace(PARITY, **{field: math.nan}).failures(PARITY_POLICY)) == 1


def test_an_invalid_parity_policy_is_rejected():
    with pytest.raises(ValueError, match=r"expected shares in 0\.\.1, got {'max_probability_gap': 3"):
        ParityPolicy(0.99, 3, 0.01, 0.01)


def read_project(project):
    return read_evidence(project / "reports")


def edit(project, name, change):
    path = project / f"reports/{name}.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_rejected_precision_is_a_note_and_not_a_failure(project):
    decision = decide(read_project(project), None, POLICY)
    assert not [failure for failure in decision.failures if "runtime" in failure]
    differs = "it differs too much from the reference (label agreement 0.9000 < 0.99)"
    assert f"int8 is not used, which costs only speed: {differs}" in decision.notes


def test_a_serving_runtime_without_parity_fails_the_gate(project):
    edit(project, "runtime", lambda report: report["precisions"]["float32"].update(probability_gap=0.2))
    assert "runtime float32: probability gap 0.2000 > 0.01" in decide(read_project(project), None, POLICY).failures


def test_scored_answers_of_another_runtime_fail_the_gate(project):
    edit(project, "robustness", lambda report: report["cells"][0].update(scored_in="int8"))
    assert "runtime float32 serves, but answers of ['int8'] were scored" in (
        decide(read_project(project), None, POLICY).failures
    )


def test_reports_without_an_exported_network_pass_without_parity(project):
    (project / "reports/runtime.json").unlink()
    decision = decide(read_project(project), None, POLICY)
    assert not [text for text in (*decision.failures, *decision.notes) if "runtime" in text]
