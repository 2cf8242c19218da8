import numpy as np
import pytest

from buckler.evaluation import robustness
from buckler.evaluation.robustness import AttackSpec, Outcome, cell, subgroup_rates, worst_case, worst_case_rates
from buckler.evaluation.statistics import wilson

TRUTH = np.array([0, 0, 1, 1])
CLEAN = np.array([True, True, True, False])


def outcome(guesses, epsilon_255=1, attack="fgsm"):
    logits = np.eye(2, dtype=np.float32)[guesses]
    return Outcome(AttackSpec(attack, (epsilon_255,)), epsilon_255, logits, np.zeros((4, 1), np.float32), 1.0)


def cell_of(guesses):
    return cell(
        outcome(guesses),
        CLEAN,
        TRUTH,
        labels=("benign", "malignant"),
        malignant=("malignant",),
        seed=0,
        crafted_in="float32",
        scored_in="float32",
    )


def test_robust_accuracy_counts_images_that_were_already_wrong():
    result = cell_of([0, 1, 1, 1])  # the last was wrong when clean and is right now: still not robust
    assert result.robust_accuracy.value == 0.5
    assert result.attack_success_rate == pytest.approx(1 / 3)


def test_malignant_to_benign_looks_at_malignant_pictures_only():
    assert cell_of([1, 1, 0, 1]).malignant_to_benign_rate == 0.5
    assert cell_of([1, 1, 0, 1]).confusion == [[0, 2], [1, 1]]


def test_worst_case_remembers_smaller_radii():
    outcomes = [outcome([0, 0, 1, 1], 4), outcome([1, 0, 1, 1], 1), outcome([0, 1, 1, 1], 4, "pgd")]
    worst = worst_case(outcomes, CLEAN, TRUTH)
    assert list(worst) == [1, 4]
    assert worst[1].tolist() == [False, True, True, False]
    assert worst[4].tolist() == [False, False, True, False]


def test_worst_case_keeps_norms_apart():
    outcomes = [outcome([0, 0, 1, 1], 4), outcome([1, 1, 0, 0], 1, "pgd_l2")]
    assert worst_case(outcomes, CLEAN, TRUTH)[4].tolist() == [True, True, True, False]
    assert list(worst_case(outcomes, CLEAN, TRUTH, "l2")) == [1]
    assert not worst_case(outcomes, CLEAN, TRUTH, "l2")[1].any()


def test_each_bare_rate_of_a_cell_has_its_interval_beside_it():
    result = cell_of([0, 1, 1, 0])
    assert result.attack_success_rate_interval == wilson(1, 3).interval
    assert result.malignant_to_benign_rate_interval == wilson(1, 2).interval


# Seven answers of three classes; a and b are malignant, c is benign.
GUESSES, TRUE = np.array([0, 1, 2, 0, 2, 2, 0]), np.array([0, 0, 0, 1, 2, 2, 2])


def three_classes(guesses, epsilon_255):
    logits = np.eye(3, dtype=np.float32)[guesses]
    return Outcome(AttackSpec("fgsm", (epsilon_255,)), epsilon_255, logits, np.zeros((7, 1), np.float32), 1.0)


def rates(*outcomes, malignant=("a", "b"), among=None):
    return worst_case_rates(outcomes, GUESSES, TRUE, labels=("a", "b", "c"), malignant=malignant, among=among)


def test_sensitivity_counts_malignant_pictures_that_stay_malignant_and_specificity_benign_ones():
    (row,) = rates(three_classes([0, 0, 0, 2, 2, 1, 2], 1))
    # Of four malignant ones two stay (one from b to a), one was missed clean though right now, one is flipped.
    assert row.sensitivity == wilson(2, 4)
    assert row.specificity == wilson(1, 3)
    assert row.malignant_to_benign_rate == wilson(1, 4)
    assert row.robust_accuracy == wilson(2, 7)


def test_a_malignant_picture_lost_at_a_small_radius_is_lost_at_a_larger_one():
    small, large = rates(three_classes(GUESSES, 2), three_classes([2, 1, 2, 0, 2, 2, 0], 1))
    assert (small.epsilon_255, large.epsilon_255) == (1, 2)
    assert small.sensitivity == large.sensitivity == wilson(2, 4)
    assert large.malignant_to_benign_rate == wilson(2, 4)


def test_a_part_of_the_pictures_is_counted_alone():
    among = np.array([True, False, False, False, True, True, False])
    (row,) = rates(three_classes([2, 1, 2, 0, 2, 2, 0], 1), among=among)
    assert (row.robust_accuracy, row.sensitivity, row.specificity) == (wilson(2, 3), wilson(0, 1), wilson(2, 2))
    (benign,) = rates(three_classes(GUESSES, 1), among=TRUE == 2)
    assert benign.sensitivity is None
    assert benign.specificity == wilson(2, 3)


@pytest.mark.parametrize("malignant", [(), ("a", "b", "c")])
def test_labels_that_do_not_tell_malignant_from_benign_have_no_such_rates(malignant):
    (row,) = rates(three_classes(GUESSES, 1), malignant=malignant)
    assert (row.malignant_to_benign_rate, row.sensitivity, row.specificity) == (None, None, None)


def test_a_subgroup_row_says_how_its_pictures_fared():
    groups = {("sex", "male"): TRUE == 0, ("sex", "female"): TRUE != 0}
    male, female = subgroup_rates(
        groups,
        [three_classes([2, 1, 2, 0, 2, 2, 0], 1)],
        GUESSES,
        TRUE,
        labels=("a", "b", "c"),
        malignant=("a", "b"),
    )
    assert (male.group, male.pictures, male.clean_accuracy) == ("male", 3, wilson(1, 3))
    assert male.worst_case[0].robust_accuracy == wilson(0, 3)
    assert female.worst_case[0].robust_accuracy == wilson(2, 4)


def test_a_targeted_line_names_its_target():
    with pytest.raises(ValueError, match="expected a target class for fgsm_targeted"):
        AttackSpec("fgsm_targeted", (1,))
    assert AttackSpec("fgsm_targeted", (1,), target=0).target == 0


@pytest.mark.parametrize(
    "wrong",
    [{"attack": "magic"}, {"epsilon_255": ()}, {"epsilon_255": (0,)}, {"steps": 0}, {"restarts": 0}, {"queries": 0}],
)
def test_a_suite_line_that_cannot_run_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        AttackSpec(**{"attack": "fgsm", "epsilon_255": (1,), **wrong})


def test_running_in_chunks_changes_nothing(tiny_classifier, tiny_pictures):
    images, truth = tiny_pictures
    suite = [AttackSpec("fgsm", (1, 4)), AttackSpec("pgd", (2,), steps=2), AttackSpec("noise", (8,))]
    suite += [AttackSpec("pgd_l2", (200,), steps=2), AttackSpec("fgsm_targeted", (2,), target=1)]
    runs = [
        robustness.run_suite(tiny_classifier, tiny_classifier, images, truth, suite, seed=3, chunk=chunk)
        for chunk in (3, len(images))
    ]
    assert [(o.spec.attack, o.epsilon_255) for o in runs[0]] == [
        ("fgsm", 1),
        ("fgsm", 4),
        ("pgd", 2),
        ("noise", 8),
        ("pgd_l2", 200),
        ("fgsm_targeted", 2),
    ]
    for small, large in zip(*runs, strict=True):
        np.testing.assert_allclose(small.logits, large.logits, atol=1e-5)
        np.testing.assert_allclose(small.features, large.features, atol=1e-4)
