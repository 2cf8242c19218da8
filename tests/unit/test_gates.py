import dataclasses
import math

import pytest

from buckler import params
from buckler.errors import DataError, ParamsError
from buckler.evaluation.statistics import Rate, wilson
from buckler.gates import Evidence, Policy, decide, decide_again

POLICY = Policy(
    min_clean_accuracy=0.7,
    min_robust_accuracy={1: 0.3},
    min_malignant_recall=0.6,
    max_calibration_error=0.2,
    max_detector_fpr=0.1,
    regression_alpha=0.05,
    valid_days=30,
)
COUNT = 100


def outcomes(clean: int, robust: int, *, prefix: str = "", count: int = COUNT) -> dict[str, dict[str, bool]]:
    """Pictures 0.. of which the first ``clean`` are right, the first ``robust`` also under attack."""
    return {f"{prefix}{i:03}": {"clean": i < clean, "worst_1": i < robust} for i in range(count)}


def evidence(clean: int = 80, robust: int = 40, **changes: object) -> Evidence:
    values = {
        "pictures": COUNT,
        "labels": ("benign", "malignant"),
        "clean_accuracy": wilson(clean, COUNT),
        "worst_case": {1: wilson(robust, COUNT)},
        "malignant_recall": wilson(40, 50),
        "calibration_error": 0.05,
        "detector_fpr": wilson(5, COUNT),
        "outcomes": outcomes(clean, robust),
    }
    return Evidence(**{**values, **changes})


def reports() -> dict[str, dict[str, object]]:
    rate = {"value": 0.8, "low": 0.7, "high": 0.9}
    return {
        "evaluation": {
            "data": {"version": "sha256:0", "images": 100},
            "labels": ["benign", "malignant"],
            "clean_accuracy": rate,
            "malignant_recall": rate,
            "calibration_error": 0.05,
        },
        "robustness": {
            "worst_case": [{"epsilon_255": 1, "robust_accuracy": rate}],
            "checks": [{"name": "gradients_not_zero", "passed": True, "detail": "none"}],
        },
        "detector": {"clean_fpr": {**rate, "value": 0.05}},
    }


def test_a_model_above_every_floor_passes_without_a_champion():
    decision = decide(evidence(), None, POLICY)
    assert decision.passed
    assert decision.failures == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clean_accuracy": wilson(69, 100)}, "clean accuracy 0.690 < 0.700"),
        ({"worst_case": {1: wilson(29, 100)}}, "worst-case robust accuracy up to 1/255 0.290 < 0.300"),
        ({"worst_case": {2: wilson(90, 100)}}, "up to 1/255 was not measured"),
        ({"malignant_recall": wilson(5, 10)}, "malignant recall 0.500 < 0.600"),
        ({"calibration_error": 0.21}, "calibration error 0.210 > 0.200"),
        ({"calibration_error": math.nan}, "calibration error nan > 0.200"),
        ({"clean_accuracy": Rate(math.nan, math.nan, math.nan)}, "clean accuracy nan < 0.700"),
        ({"detector_fpr": wilson(11, 100)}, "false positive rate 0.110 > 0.100"),
        ({"failed_checks": ("gradients_not_zero: 8 of 8",)}, "check gradients_not_zero: 8 of 8"),
    ],
)
def test_each_broken_rule_is_a_reason_of_its_own(changes, reason):
    (failure,) = decide(dataclasses.replace(evidence(), **changes), None, POLICY).failures
    assert reason in failure


def test_all_broken_rules_are_listed_at_once():
    worst = evidence(clean=10, robust=1, calibration_error=0.9, failed_checks=("a: b",))
    assert len(decide(worst, None, POLICY).failures) == 4


def test_values_on_the_floor_pass():
    on_the_floor = evidence(
        clean=70,
        robust=30,
        calibration_error=0.2,
        detector_fpr=wilson(10, 100),
        malignant_recall=wilson(6, 10),
    )
    assert decide(on_the_floor, None, POLICY).passed


def test_recall_is_not_asked_of_data_without_a_malignant_label():
    assert decide(evidence(malignant_recall=None), None, POLICY).passed


def test_an_equal_challenger_passes_and_so_does_a_better_one():
    assert decide(evidence(), evidence(), POLICY).passed
    assert decide(evidence(clean=90, robust=60), evidence(), POLICY).passed


def test_losing_five_pictures_and_winning_none_is_a_significant_regression():
    # McNemar: 0.5 ** 5 = 0.031 < 0.05, although the unpaired intervals overlap widely.
    (failure,) = decide(evidence(clean=80), evidence(clean=85), POLICY).failures
    assert "clean accuracy 0.800 is significantly below the champion's 0.850" in failure
    assert "of 100 common pictures it loses 5 and wins 0 (p = 0.031 < 0.05)" in failure


def test_losing_four_pictures_may_be_chance():
    assert decide(evidence(clean=80), evidence(clean=84), POLICY).passed


def test_robustness_is_compared_too():
    (failure,) = decide(evidence(robust=40), evidence(robust=60), POLICY).failures
    assert "worst-case robust accuracy up to 1/255" in failure


def test_a_champion_measured_on_other_pictures_is_compared_by_shares():
    elsewhere = evidence(clean=85, outcomes=outcomes(85, 40, prefix="other/"))
    assert decide(evidence(clean=80), elsewhere, POLICY).passed
    far_better = evidence(clean=98, outcomes=outcomes(98, 40, prefix="other/"))
    (failure,) = decide(evidence(clean=80), far_better, POLICY).failures
    assert "on other pictures, 100 and 100" in failure


def test_other_labels_than_the_champions_are_refused():
    (failure,) = decide(evidence(), evidence(labels=("akiec", "nv")), POLICY).failures
    assert "publish.model_name" in failure


def test_a_comparison_without_outcomes_is_an_error_not_a_pass():
    with pytest.raises(DataError, match="outcome"):
        decide(evidence(outcomes=None), evidence(), POLICY)


def test_a_later_measurement_refutes_a_floor_only_with_its_whole_interval():
    unlucky = Evidence(20, (), clean_accuracy=wilson(12, 20), worst_case={1: wilson(4, 20)})
    assert decide_again(unlucky, POLICY).passed
    broken = Evidence(20, (), clean_accuracy=wilson(14, 20), worst_case={1: wilson(0, 20), 8: wilson(0, 20)})
    (failure,) = decide_again(broken, POLICY).failures
    assert "robust accuracy up to 1/255 0.000" in failure
    assert "lies below 0.300" in failure


def test_what_was_not_measured_again_is_not_judged():
    assert decide_again(Evidence(20, ()), POLICY).passed


def test_evidence_is_read_from_the_reports():
    found = Evidence.from_reports(reports(), outcomes(80, 40))
    assert found.clean_accuracy == Rate(0.8, 0.7, 0.9)
    assert found.worst_case == {1: Rate(0.8, 0.7, 0.9)}
    assert found.failed_checks == ()
    assert decide(found, None, POLICY).passed


def test_a_failed_sanity_check_in_the_report_fails_the_gate():
    doubtful = reports()
    doubtful["robustness"]["checks"][0]["passed"] = False
    decision = decide(Evidence.from_reports(doubtful), None, POLICY)
    assert decision.failures == ("check gradients_not_zero: none",)


@pytest.mark.parametrize("name", ["evaluation", "robustness", "detector"])
def test_a_report_that_lacks_what_the_gate_needs_is_an_error(name):
    incomplete = reports()
    incomplete[name] = {}
    with pytest.raises(DataError, match="dvc repro"):
        Evidence.from_reports(incomplete)
    del incomplete[name]
    with pytest.raises(DataError, match=name):
        Evidence.from_reports(incomplete)


def test_the_policy_comes_from_params_and_survives_json():
    policy = params.load("gate", Policy)
    written = dataclasses.asdict(policy)
    written["min_robust_accuracy"] = {str(k): v for k, v in written["min_robust_accuracy"].items()}
    assert params.parse("gate", Policy, written) == policy


@pytest.mark.parametrize("changes", [{"min_clean_accuracy": 70}, {"min_robust_accuracy": {1: 1.5}}, {"valid_days": 0}])
def test_a_policy_that_cannot_be_meant_is_refused(changes):
    with pytest.raises(ParamsError, match="expected"):
        params.parse("gate", Policy, {**dataclasses.asdict(POLICY), **changes})
