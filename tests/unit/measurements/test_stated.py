"""The measurements that a verdict states."""

import pytest

from buckler.errors import VerdictError
from buckler.evaluation.reports import MeasuredModel
from buckler.evaluation.statistics import wilson
from buckler.measurements.results import HeatMapCheck
from buckler.measurements.stated import Measured
from tests import projects


def test_what_a_verdict_states_is_read_back_as_it_was_measured(project):
    verdict = projects.build(project)
    found = Measured.read(verdict.measured)
    robustness = projects.robustness(MeasuredModel("", ""), 80, 40)
    assert found.clean_accuracy == wilson(80, 100)
    assert found.attacks == robustness.cells
    assert found.worst_case == robustness.worst_case
    assert found.checks == robustness.checks
    assert found.detector.threshold == 2.1
    decisions = projects.decisions(MeasuredModel("", ""))
    assert (found.reliability, found.calibration_error) == (decisions.reliability, decisions.calibration_error)
    assert (found.decisions.danger, found.decisions.with_limit) == (decisions.danger, decisions.with_limit)
    assert found.headline()["accepted_misses"] == 0.02
    assert found.headline()["reviews"] == 0.12
    assert Measured.read(found.document()) == found


def test_a_verdict_without_measurements_states_nothing():
    found = Measured.read({})
    assert found == Measured()
    assert found.headline() == {}


def test_fields_of_other_versions_are_ignored_and_malformed_ones_named():
    assert Measured.read({"labels": ["a"], "later": 1}).labels == ("a",)
    with pytest.raises(VerdictError, match=r"measurements are malformed: clean_accuracy\.value: .*number"):
        Measured.read({"clean_accuracy": {"value": "high", "low": 0, "high": 1, "pictures": 3}})


def test_the_headline_is_flat_and_leaves_out_what_was_not_measured():
    measured = Measured(
        clean_accuracy=wilson(80, 100),
        worst_case=(projects.worst_case(40, 100),),
        attacks=(projects.cell(2, 39, 80),),
        calibration_error=0.0512345,
        heat_map=HeatMapCheck(wilson(90, 100), {}, 0),
    )
    assert measured.headline() == {
        "clean_accuracy": 0.8,
        "heat_map_pointed": 0.9,
        "worst_case_1": 0.4,
        "sensitivity_1": 0.4,
        "specificity_1": 0.4,
        "fgsm_2": 0.39,
        "calibration_error": 0.0512,
    }
