import dataclasses
import json
import math

import pytest

from buckler import params
from buckler.errors import DataError, ParamsError
from buckler.evaluation.reports import DecisionsReport, DetectorReport, MeasuredModel
from buckler.evaluation.statistics import wilson
from buckler.measurements.detection import BenignChange, FlaggedSubgroup, WeakestDetection, WorstDetection
from buckler.measurements.results import CheckResult, FindingRow, FindingWorstCase, Rate, Subgroup, WorstCase
from buckler.measurements.stated import MeasuredFinding
from buckler.radius import StatedRadius
from buckler.release import bundle
from buckler.release.evidence import Evidence, read_reports
from buckler.release.gate import decide, decide_again
from buckler.release.policy import Policy
from tests import projects
from tests.unit.release.policies import POLICY

COUNT = 100


def outcomes(clean: int, robust: int, *, prefix: str = "", count: int = COUNT) -> dict[str, dict[str, bool]]:
    """Return outcomes: the first ``clean`` pictures are right, the first ``robust`` also under attack."""
    return {f"{prefix}{i:03}": {"clean": i < clean, "worst_1/255": i < robust} for i in range(count)}


def worst_case(robust: Rate, radius: int = 1, *, sensitivity: Rate | None = None, specificity: Rate | None = None):
    """Return the rates under the worst case up to ``radius``, by radius."""
    return {StatedRadius(radius): WorstCase(StatedRadius(radius), robust, None, sensitivity, specificity)}


def group(name: str, clean: int, robust: int, pictures: int = 50, column: str = "sex") -> Subgroup:
    worst = tuple(worst_case(wilson(robust, pictures)).values())
    return Subgroup(column, name, pictures, wilson(clean, pictures), worst)


def detector(**changes: object) -> DetectorReport:
    """Return a detector's report with these ``clean_fpr``, ``harmless``, ``subgroups``, ``auc`` and ``evaded``."""
    found = {
        "clean_fpr": wilson(5, COUNT),
        "harmless": {"noise_2": wilson(5, COUNT)},
        "subgroups": {("label", "benign"): wilson(5, 50)},
        "auc": {StatedRadius(2): 0.95},
        "evaded": {StatedRadius(2): wilson(30, COUNT)},
    } | changes
    worst = tuple(
        WorstDetection(
            radius,
            WeakestDetection("pgd", found["auc"][radius]) if radius in found["auc"] else None,
            wilson(30, COUNT),
            found["evaded"].get(radius),
        )
        for radius in sorted({*found["auc"], *found["evaded"]})
    )
    return projects.detector(MeasuredModel("sha256:0", "sha256:1")).model_copy(
        update={
            "clean_fpr": found["clean_fpr"],
            "harmless": tuple(BenignChange(name, 0.5, rate) for name, rate in found["harmless"].items()),
            "subgroups": tuple(FlaggedSubgroup(*group, rate) for group, rate in found["subgroups"].items()),
            "worst": worst,
        }
    )


def decisions(accepted_misses: Rate | None) -> DecisionsReport:
    found = projects.decisions(MeasuredModel("sha256:0", "sha256:1"))
    return found.model_copy(
        update={"with_limit": dataclasses.replace(found.with_limit, accepted_misses=accepted_misses)}
    )


def evidence(clean: int = 80, robust: int = 40, **changes: object) -> Evidence:
    values = {
        "pictures": COUNT,
        "labels": ("benign", "malignant"),
        "clean_accuracy": wilson(clean, COUNT),
        "worst_case": worst_case(wilson(robust, COUNT), sensitivity=wilson(25, 50), specificity=wilson(20, 50)),
        "subgroups": (group("female", 40, 20), group("male", 40, 20)),
        "malignant_recall": wilson(40, 50),
        "calibration_error": 0.05,
        "decisions": decisions(wilson(1, 50)),
        "detector": detector(),
        "validation": projects.validation(),
        "outcomes": outcomes(clean, robust),
    }
    return Evidence(**{**values, **changes})


def test_a_set_with_one_dangerous_finding_does_not_hide_that_another_is_missed():
    """Of sets of findings, every answer with a dangerous finding counts as dangerous."""
    labels = ("a", "a+b", "b", "no_finding")

    def found(sensitivity: Rate, attacked: Rate) -> MeasuredFinding:
        clean = FindingRow(0.9, (0.8, 1.0), sensitivity, wilson(45, 50))
        return MeasuredFinding(clean=clean, worst_case=(FindingWorstCase(StatedRadius(1), attacked, wilson(40, 50)),))

    def failures(b: MeasuredFinding, dangerous: tuple[str, ...]) -> tuple[str, ...]:
        both = {"a": found(wilson(40, 50), wilson(30, 50)), "b": b}
        return decide(evidence(labels=labels, dangerous=dangerous, findings=both), None, POLICY).failures

    harmful = ("a", "a+b", "b")
    assert failures(found(wilson(40, 50), wilson(30, 50)), harmful) == ()
    missed, flipped = failures(found(wilson(20, 50), wilson(10, 50)), harmful)
    assert "sensitivity of b 0.400 < 0.600" in missed
    assert "worst-case sensitivity of b up to 1/255 0.200 < 0.300" in flipped
    assert failures(found(wilson(20, 50), wilson(10, 50)), ("a", "a+b")) == ()


def test_a_model_above_every_floor_passes_without_a_champion():
    decision = decide(evidence(), None, POLICY)
    assert decision.passed
    assert decision.failures == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clean_accuracy": wilson(69, 100)}, "clean accuracy 0.690 < 0.700"),
        ({"worst_case": worst_case(wilson(29, 100))}, "worst-case robust accuracy up to 1/255 0.290 < 0.300"),
        ({"malignant_recall": wilson(25, 50)}, "recall of dangerous labels 0.500 < 0.600"),
        (
            {"worst_case": worst_case(wilson(40, 100), sensitivity=wilson(14, 50))},
            "worst-case sensitivity up to 1/255 0.280 < 0.300",
        ),
        (
            {"worst_case": worst_case(wilson(40, 100), specificity=wilson(9, 50))},
            "worst-case specificity up to 1/255 0.180 < 0.200",
        ),
        (
            {"worst_case": worst_case(wilson(20, 32))},
            "robust accuracy up to 1/255 was judged on 32 pictures; a floor of 0.3 needs at least 33",
        ),
        (
            {"subgroups": (group("female", 16, 20),)},
            "clean accuracy of sex 'female', 50 pictures, 0.320 is significantly",
        ),
        ({"calibration_error": 0.21}, "calibration error 0.210 > 0.200"),
        ({"calibration_error": math.nan}, "calibration error nan > 0.200"),
        ({"clean_accuracy": Rate(math.nan, math.nan, math.nan, 100)}, "clean accuracy nan < 0.700"),
        ({"decisions": decisions(wilson(3, 50))}, "accepted misses 0.060 > 0.050 (95 % interval 0.021 to 0.162)"),
        ({"decisions": decisions(Rate(math.nan, math.nan, math.nan, 100))}, "accepted misses nan > 0.050"),
        ({"decisions": None}, "share of accepted misses was not measured, expected at most 0.050"),
        (
            {"decisions": decisions(wilson(0, 9))},
            "accepted misses was judged on 9 pictures; a ceiling of 0.05 needs at least 13",
        ),
        ({"detector": detector(clean_fpr=wilson(11, 100))}, "false-positive rate 0.110 > 0.100"),
        (
            {"detector": detector(harmless={"jpeg_75": wilson(11, 100)})},
            "0.110 of pictures after the benign change 'jpeg_75'",
        ),
        ({"detector": detector(subgroups={("sex", "male"): wilson(21, 100)})}, "of sex 'male' 0.210 > 0.200"),
        ({"detector": detector(auc={StatedRadius(2): 0.89})}, "separates worst at 2/255 0.890 < 0.900"),
        ({"detector": detector(auc={StatedRadius(8): 0.99})}, "AUC at 2/255 was not measured"),
        ({"detector": detector(evaded={StatedRadius(2): wilson(41, 100)})}, "at 2/255 0.410 > 0.400"),
        ({"detector": detector(evaded={})}, "evasion of network and detector at 2/255 was not measured"),
        ({"detector": None}, "detector was not measured"),
        ({"failed_checks": ("gradients_not_zero: 8 of 8",)}, "check gradients_not_zero: 8 of 8"),
    ],
)
def test_each_broken_rule_is_one_reason(changes, reason):
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
        decisions=decisions(wilson(5, 100)),
        detector=detector(clean_fpr=wilson(10, 100), subgroups={("sex", "few"): wilson(5, 5)}),
        malignant_recall=wilson(30, 50),
    )
    assert decide(on_the_floor, None, POLICY).passed


def test_data_without_a_malignant_label_need_no_malignant_rates():
    without = {"malignant_recall": None, "worst_case": worst_case(wilson(40, 100)), "decisions": decisions(None)}
    assert decide(evidence(**without), None, POLICY).passed


def test_an_unmeasured_radius_breaks_each_of_its_floors():
    failures = decide(evidence(worst_case=worst_case(wilson(90, 100), radius=2)), None, POLICY).failures
    assert [failure.partition(",")[0] for failure in failures] == [
        f"worst-case {name} up to 1/255 was not measured" for name in ("robust accuracy", "sensitivity", "specificity")
    ]


def test_too_few_pictures_fail_the_gate_with_the_number_needed():
    few = evidence(clean_accuracy=wilson(30, 30), malignant_recall=wilson(15, 15))
    clean, recall = decide(few, None, POLICY).failures
    assert clean == (
        "clean accuracy was judged on 30 pictures; a floor of 0.7 needs at least 33 "
        "for an interval of plus or minus 0.15"
    )
    assert "recall of dangerous labels was judged on 15 pictures" in recall
    enough = evidence(clean_accuracy=wilson(33, 33))
    assert decide(enough, None, POLICY).passed


def test_a_floor_of_zero_needs_no_minimum_of_pictures():
    lenient = dataclasses.replace(POLICY, min_clean_accuracy=0.0)
    assert decide(evidence(clean_accuracy=wilson(0, 1)), None, lenient).passed


def test_a_ceiling_of_one_for_accepted_misses_judges_nothing():
    lenient = dataclasses.replace(POLICY, max_accepted_misses=1.0)
    for found in (decisions(wilson(1, 1)), None):
        assert decide(evidence(decisions=found), None, lenient).passed


def test_a_subgroup_a_little_below_its_floor_may_be_chance():
    assert decide(evidence(subgroups=(group("female", 29, 20),)), None, POLICY).passed


def test_with_more_subgroups_a_floor_is_broken_less_easily():
    low = group("female", 22, 20)  # p = 0.016 against 0.6
    assert not decide(evidence(subgroups=(low,)), None, POLICY).passed
    many = (low, *(group(f"site {i}", 45, 40, column="localization") for i in range(10)))
    assert decide(evidence(subgroups=many), None, POLICY).passed
    (failure,) = decide(evidence(subgroups=(group("female", 8, 20), *many[1:])), None, POLICY).failures
    assert "after Holm's correction for 22 floors" in failure


def test_robust_accuracy_has_a_floor_in_each_subgroup():
    (failure,) = decide(evidence(subgroups=(group("60 and over", 40, 1, column="age"),)), None, POLICY).failures
    assert "worst-case robust accuracy up to 1/255 of age '60 and over', 50 pictures, 0.020" in failure


def test_small_subgroups_are_noted_not_judged():
    decision = decide(evidence(subgroups=(group("male", 40, 20), group("unknown", 0, 0, pictures=9))), None, POLICY)
    assert decision.passed
    assert decision.notes == ("not judged, fewer than 10 pictures: sex 'unknown' (9)",)
    assert not decide(evidence(subgroups=(group("unknown", 0, 0, pictures=10),)), None, POLICY).passed


def test_subgroups_with_floors_must_be_measured():
    failures = decide(evidence(subgroups=()), None, POLICY).failures
    assert failures == (
        "clean accuracy of subgroups was not measured, expected at least 0.600",
        "worst-case robust accuracy up to 1/255 of subgroups was not measured, expected at least 0.200",
    )
    nothing = dataclasses.replace(POLICY, min_subgroup_clean_accuracy=0.0, min_subgroup_robust_accuracy={})
    assert decide(evidence(subgroups=()), None, nothing).passed


def test_an_equal_challenger_passes_and_so_does_a_better_one():
    assert decide(evidence(), evidence(), POLICY).passed
    assert decide(evidence(clean=90, robust=60), evidence(), POLICY).passed


def test_losing_six_pictures_and_winning_none_is_a_significant_regression():
    # McNemar: 0.5 ** 6 = 0.016, doubled for two comparisons, although the unpaired intervals overlap widely.
    (failure,) = decide(evidence(clean=80), evidence(clean=86), POLICY).failures
    assert "clean accuracy 0.800 is significantly below the champion's 0.860" in failure
    assert "of 100 common pictures it loses 6 and wins 0" in failure
    assert "(p = 0.016, 0.031 < 0.05 after Holm's correction for 2 comparisons)" in failure


def test_losing_five_pictures_may_be_chance_with_two_comparisons():
    # 0.5 ** 5 = 0.031 would be significant alone.
    assert decide(evidence(clean=80), evidence(clean=85), POLICY).passed


def test_after_one_clear_regression_the_next_is_tested_at_the_full_level():
    # Holm: after the robust accuracy is rejected, the clean accuracy is judged as if alone.
    assert len(decide(evidence(clean=80, robust=40), evidence(clean=85, robust=60), POLICY).failures) == 2


def test_robust_accuracy_is_compared_with_the_champions():
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


def test_a_comparison_without_outcomes_is_an_error():
    with pytest.raises(DataError, match="outcome"):
        decide(evidence(outcomes=None), evidence(), POLICY)


def test_a_later_measurement_refutes_a_floor_only_with_its_whole_interval():
    unlucky = Evidence(20, (), clean_accuracy=wilson(12, 20), worst_case=worst_case(wilson(4, 20)))
    assert decide_again(unlucky, POLICY).passed
    worst = worst_case(wilson(0, 20)) | worst_case(wilson(0, 20), radius=8)
    broken = Evidence(20, (), clean_accuracy=wilson(14, 20), worst_case=worst)
    (failure,) = decide_again(broken, POLICY).failures
    assert "robust accuracy up to 1/255 0.000" in failure
    assert "is below 0.300" in failure


def test_a_later_measurement_also_refutes_sensitivity_and_subgroups():
    worst = worst_case(wilson(8, 20), sensitivity=wilson(0, 10), specificity=wilson(8, 10))
    measured = Evidence(20, (), worst_case=worst, subgroups=(group("male", 1, 1, pictures=12),))
    sensitivity, subgroup = decide_again(measured, POLICY).failures
    assert "worst-case sensitivity up to 1/255 0.000" in sensitivity
    assert "clean accuracy of sex 'male', 12 pictures" in subgroup


def test_floors_that_were_not_measured_again_are_not_refuted():
    assert decide_again(Evidence(20, ()), POLICY).passed


def test_the_evidence_is_what_the_reports_state(project):
    found = Evidence.of(read_reports(project / "reports"))
    assert found.clean_accuracy == wilson(80, 100)
    assert found.worst_case == {"1/255": projects.worst_case(40, 100)}
    assert [(row.column, row.group, row.pictures) for row in found.subgroups] == [
        ("label", "benign", 50),
        ("label", "malignant", 50),
    ]
    assert found.failed_checks == ()
    assert sum(row["worst_1/255"] for row in found.outcomes.values()) == 40
    assert decide(found, None, projects.POLICY).passed


def test_a_failed_sanity_check_in_the_report_fails_the_gate(project):
    found = read_reports(project / "reports")
    doubtful = found.robustness.model_copy(
        update={"checks": (CheckResult("gradients_not_zero", "gradients", False, "32 of 32"),)}
    )
    decision = decide(Evidence.of(dataclasses.replace(found, robustness=doubtful)), None, projects.POLICY)
    assert decision.failures == ("check gradients_not_zero: 32 of 32",)


def test_the_policy_read_from_params_is_unchanged_by_json():
    policy = params.load("gate", Policy)
    written = json.loads(json.dumps(bundle.as_json(policy)))
    assert params.parse("gate", Policy, written) == policy


@pytest.mark.parametrize(
    ("profile", "pictures", "malignant"), [("demo", 240, 120), ("paper", 300, 150), ("ham10000", 126, 54)]
)
def test_the_test_split_of_every_profile_is_large_enough_for_its_floors(tmp_path, profile, pictures, malignant):
    path = tmp_path / "params.yaml"
    path.write_text(params.PARAMS_FILE.read_text())
    params.apply_profile(profile, {}, path)
    policy = params.load("gate", Policy, path)
    all_right = {"sensitivity": wilson(malignant, malignant), "specificity": wilson(pictures - malignant, pictures)}
    perfect = evidence(
        clean_accuracy=wilson(pictures, pictures),
        malignant_recall=wilson(malignant, malignant),
        worst_case=worst_case(wilson(pictures, pictures), **all_right),
    )
    assert decide(perfect, None, policy).failures == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"min_clean_accuracy": 70},
        {"min_robust_accuracy": {1: 1.5}},
        {"min_robust_sensitivity": {0: 0.5}},
        {"min_subgroup_robust_accuracy": {1: -0.1}},
        {"min_subgroup_records": 0},
        {"max_margin_of_error": 0.0},
        {"max_margin_of_error": 0.5},
        {"valid_days": 0},
        {"valid_days": 100_000},
        {"regression_alpha": 0.0},
    ],
)
def test_an_invalid_policy_is_rejected(changes):
    with pytest.raises(ParamsError, match=r"params\.yaml: gate.*(expected|Input should be)"):
        params.parse("gate", Policy, {**dataclasses.asdict(POLICY), **changes})
