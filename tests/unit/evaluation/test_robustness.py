from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from buckler.attacks.autopgd import APGDMargin
from buckler.attacks.base import REPORTED
from buckler.attacks.gradient import FGSM, FGSMTargeted
from buckler.attacks.iterative import MIFGSM, PGD
from buckler.attacks.l2 import PGDL2
from buckler.attacks.minimal import CarliniWagner
from buckler.attacks.noise import Noise
from buckler.attacks.table import ATTACKS, build
from buckler.data.pictures import Pictures
from buckler.evaluation import robustness
from buckler.evaluation.robustness import cell, finding_rates, subgroup_rates, worst_case, worst_case_rates
from buckler.evaluation.statistics import wilson
from buckler.evaluation.suite import AttackOutcome, AttackSpec, Progress, run_suite
from buckler.models.info import ModelInfo
from buckler.radius import StatedRadius
from tests.forms import square
from tests.unit.interrupted import CHUNK, Scored, pictures, run

TRUTH = np.array([0, 0, 1, 1])
CLEAN = np.array([True, True, True, False])


def outcome(guesses, radius=1, attack="fgsm"):
    logits = np.eye(2, dtype=np.float32)[guesses]
    return AttackOutcome(
        AttackSpec(build(attack), (radius,)), StatedRadius(radius), logits, np.zeros((4, 1), np.float32), 1.0
    )


def cell_of(guesses):
    return cell(
        outcome(guesses),
        CLEAN,
        TRUTH,
        labels=("benign", "malignant"),
        dangerous=("malignant",),
        seed=0,
        crafted_in="float32",
        scored_in="float32",
    )


def test_robust_accuracy_counts_images_that_were_already_wrong():
    result = cell_of([0, 1, 1, 1])  # the last was wrong when clean and is right now: still not robust
    assert result.robust_accuracy.value == 0.5
    assert result.attack_success_rate == pytest.approx(1 / 3)


def test_malignant_to_benign_rate_counts_dangerous_pictures_only():
    assert cell_of([1, 1, 0, 1]).malignant_to_benign_rate == 0.5
    assert cell_of([1, 1, 0, 1]).confusion == [[0, 2], [1, 1]]


def test_worst_case_includes_smaller_radii():
    outcomes = [outcome([0, 0, 1, 1], 4), outcome([1, 0, 1, 1], 1), outcome([0, 1, 1, 1], 4, "pgd")]
    worst = worst_case(outcomes, CLEAN, TRUTH)
    assert list(worst) == ["1/255", "4/255"]
    assert worst["1/255"].tolist() == [False, True, True, False]
    assert worst["4/255"].tolist() == [False, False, True, False]


def test_worst_case_counts_one_norm_only():
    outcomes = [outcome([0, 0, 1, 1], 4), outcome([1, 1, 0, 0], 1, "pgd_l2")]
    assert worst_case(outcomes, CLEAN, TRUTH)["4/255"].tolist() == [True, True, True, False]
    assert list(worst_case(outcomes, CLEAN, TRUTH, "l2")) == ["1/255"]
    assert not worst_case(outcomes, CLEAN, TRUTH, "l2")["1/255"].any()


def test_each_bare_rate_of_a_cell_has_its_interval_beside_it():
    result = cell_of([0, 1, 1, 0])
    assert result.attack_success_rate_interval == wilson(1, 3).interval
    assert result.malignant_to_benign_rate_interval == wilson(1, 2).interval


# Seven answers of three classes; a and b are dangerous, c is harmless.
GUESSES, TRUE = np.array([0, 1, 2, 0, 2, 2, 0]), np.array([0, 0, 0, 1, 2, 2, 2])


def three_classes(guesses, radius):
    logits = np.eye(3, dtype=np.float32)[guesses]
    return AttackOutcome(AttackSpec(FGSM(), (radius,)), StatedRadius(radius), logits, np.zeros((7, 1), np.float32), 1.0)


def rates(*outcomes, dangerous=("a", "b"), among=None):
    return worst_case_rates(outcomes, GUESSES, TRUE, labels=("a", "b", "c"), dangerous=dangerous, among=among)


def test_sensitivity_counts_dangerous_pictures_that_stay_dangerous_and_specificity_harmless_ones():
    (row,) = rates(three_classes([0, 0, 0, 2, 2, 1, 2], 1))
    # Of four dangerous ones two stay (one from b to a), one was missed clean though right now, one is flipped.
    assert row.sensitivity == wilson(2, 4)
    assert row.specificity == wilson(1, 3)
    assert row.malignant_to_benign_rate == wilson(1, 4)
    assert row.robust_accuracy == wilson(2, 7)


def test_a_dangerous_picture_lost_at_a_small_radius_is_lost_at_a_larger_one():
    small, large = rates(three_classes(GUESSES, 2), three_classes([2, 1, 2, 0, 2, 2, 0], 1))
    assert (small.radius, large.radius) == ("1/255", "2/255")
    assert small.sensitivity == large.sensitivity == wilson(2, 4)
    assert large.malignant_to_benign_rate == wilson(2, 4)


def test_worst_case_rates_of_a_part_count_only_its_pictures():
    among = np.array([True, False, False, False, True, True, False])
    (row,) = rates(three_classes([2, 1, 2, 0, 2, 2, 0], 1), among=among)
    assert (row.robust_accuracy, row.sensitivity, row.specificity) == (wilson(2, 3), wilson(0, 1), wilson(2, 2))
    (benign,) = rates(three_classes(GUESSES, 1), among=TRUE == 2)
    assert benign.sensitivity is None
    assert benign.specificity == wilson(2, 3)


@pytest.mark.parametrize("dangerous", [(), ("a", "b", "c")])
def test_labels_all_or_none_of_which_are_dangerous_have_no_such_rates(dangerous):
    (row,) = rates(three_classes(GUESSES, 1), dangerous=dangerous)
    assert (row.malignant_to_benign_rate, row.sensitivity, row.specificity) == (None, None, None)


def test_a_subgroup_row_has_the_rates_of_its_pictures():
    groups = {("sex", "male"): TRUE == 0, ("sex", "female"): TRUE != 0}
    male, female = subgroup_rates(
        groups,
        [three_classes([2, 1, 2, 0, 2, 2, 0], 1)],
        GUESSES,
        TRUE,
        labels=("a", "b", "c"),
        dangerous=("a", "b"),
    )
    assert (male.group, male.pictures, male.clean_accuracy) == ("male", 3, wilson(1, 3))
    assert male.worst_case[0].robust_accuracy == wilson(0, 3)
    assert female.worst_case[0].robust_accuracy == wilson(2, 4)


def line(**values):
    """A line of a suite as params.yaml writes it."""
    return TypeAdapter(AttackSpec).validate_python({"attack": "fgsm", "radii": ["1/255"], **values})


def test_a_line_of_params_names_an_attack_its_settings_and_its_radii():
    read = line(attack="mifgsm", radii=["1/255", "4/255"], steps=7, momentum=0.5, name="late", only_survivors=True)
    assert read == AttackSpec(MIFGSM(steps=7, momentum=0.5), (1, 4), name="late", only_survivors=True)
    assert line(attack="fgsm_targeted", target=0) == AttackSpec(FGSMTargeted(target=0), (1,))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"attack": "magic"}, "expected an attack of .*, got 'magic'"),
        ({"step": 3}, r"fgsm: expected settings of \[\], got \['step'\]"),
        ({"attack": "pgd", "queries": 3}, r"pgd: expected settings of \['steps', .*\], got \['queries'\]"),
        ({"attack": "pgd", "steps": "ten"}, "pgd.steps: Input should be a valid integer.*got 'ten'"),
        ({"attack": "fgsm_targeted"}, "expected a target class for fgsm_targeted, got none"),
        ({"attack": "pgd", "steps": -1}, r"pgd: expected at least 1 and at most \d+, got \{'steps': -1\}"),
        ({"attack": "pgd", "restarts": 0}, "expected at least 1"),
        ({"attack": "square", "queries": 0}, "expected at least 1"),
        ({"radii": []}, "expected ascending radii above 0 in one unit, got none"),
        ({"radii": ["0/255"]}, "expected ascending radii above 0"),
        ({"radii": ["2/255", "1/255"]}, "expected ascending radii"),
        ({"radii": ["1/255", "1/255"]}, "expected ascending radii"),
        ({"name": "worst"}, "expected a name"),
        ({"name": "no@sign"}, "expected a name"),
    ],
)
def test_an_invalid_suite_line_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        line(**wrong)


def test_a_line_without_steps_takes_its_attacks_own_and_the_cell_says_which():
    # The budgets of the attacks' authors, not one step for all.
    own = {"pgd": 10, "bim": 10, "mifgsm": 10, "apgd-ce": 100, "fab": 40, "deepfool": 50}
    assert {name: line(attack=name).attack.budget["steps"] for name in own} == own
    assert cell_of([0, 0, 1, 1]).steps == 1


def test_tuning_has_the_deciding_values_except_the_reported_settings():
    assert MIFGSM(momentum=0.9).tuning == {"momentum": 0.9, "step_size": "epsilon / steps", "exit_margin": 0.05}
    assert PGD(step_size=0.01).tuning == {"step_size": 0.01, "exit_margin": 0.05}
    assert FGSM().tuning == {}


def test_a_cell_names_the_attackers_knowledge_and_the_attacks_constants():
    assert cell_of([0, 0, 1, 1]).knowledge == "white_box"
    assert {name: ATTACKS[name].knowledge for name in ("square", "hop_skip_jump", "noise")} == {
        "square": "score",
        "hop_skip_jump": "label",
        "noise": "none",
    }
    assert CarliniWagner().tuning["searches"] == 9
    made = [build(name, **{"target": 0} if kind.targeted else {}) for name, kind in ATTACKS.items()]
    assert all(not set(attack.tuning) & set(REPORTED) for attack in made)


def test_lines_of_one_attack_need_different_names():
    lines = [AttackSpec(PGD(), (1,)), AttackSpec(PGD(steps=40), (4,))]
    with pytest.raises(ValueError, match=r"more than one line is called \['pgd'\]; give each its own `name: ...`"):
        run(Scored(3), suite=lines)
    lines[1] = AttackSpec(PGD(steps=40), (4,), name="pgd-40")
    assert [o.spec.name for o in run(Scored(3), suite=lines)] == ["pgd", "pgd-40"]


LINES = (
    AttackSpec(FGSM(), (1, 8)),
    AttackSpec(PGDL2(steps=3), (60,)),
    AttackSpec(PGD(steps=3), (2, 4)),
    AttackSpec(APGDMargin(steps=3), (1, 4, 8)),
)


def truth_and_clean():
    images, truth = pictures(Scored(3))
    return truth, Scored(3).logits(images).argmax(axis=1) == truth


def test_a_line_on_survivors_finds_the_same_worst_case_with_fewer_gradients():
    truth, clean = truth_and_clean()
    patient, eager = Scored(3), Scored(3)
    everyone = run(patient, suite=LINES)
    survivors = run(eager, suite=[replace(line, only_survivors=True) for line in LINES])
    assert eager.passes < patient.passes
    for norm in ("linf", "l2"):
        ours, theirs = (worst_case(outcomes, clean, truth, norm) for outcomes in (survivors, everyone))
        assert ours.keys() == theirs.keys()
        for radius in ours:
            np.testing.assert_array_equal(ours[radius], theirs[radius])
    flipped = [int((clean & ~right).sum()) for right in worst_case(survivors, clean, truth).values()]
    assert 0 < flipped[0] < flipped[-1]  # else nothing was compared


def test_a_survivors_cell_counts_pictures_robust_to_it_and_all_earlier_lines_of_its_norm_up_to_its_radius():
    truth, clean = truth_and_clean()
    suite = [*LINES[:2], *(replace(line, only_survivors=True) for line in LINES[2:])]
    outcomes = run(Scored(3), suite=suite)
    for place, outcome in enumerate(outcomes):
        if outcome.spec.only_survivors:
            before = [o for o in outcomes[: place + 1] if o.radius <= outcome.radius]
            expected = worst_case(before, clean, truth)[outcome.radius]
            np.testing.assert_array_equal(clean & (outcome.guesses == truth), expected)
            facts = {"labels": ("a", "b", "c"), "dangerous": (), "seed": 7, "crafted_in": "x", "scored_in": "x"}
            made = cell(outcome, clean, truth, **facts)
            assert made.only_survivors
            assert made.robust_accuracy.value == expected.mean()


def test_pictures_that_are_wrong_when_clean_are_no_survivors():
    truth, clean = truth_and_clean()
    model = Scored(3)
    (outcome,) = run(model, suite=[AttackSpec(FGSM(), (1,), only_survivors=True)])
    assert model.passes == clean.sum() < len(truth)
    images, _ = pictures(model)
    np.testing.assert_array_equal(outcome.logits[~clean], model.logits(images)[~clean])


def test_a_line_without_survivors_attacks_no_picture():
    _, clean = truth_and_clean()
    model = Scored(3)
    first, second = run(model, suite=[AttackSpec(FGSM(), (200,)), AttackSpec(PGD(), (200,), only_survivors=True)])
    assert model.passes == 12
    np.testing.assert_array_equal(second.logits[clean], first.logits[clean])
    assert second.seconds == 0


def test_the_control_attacks_every_picture():
    with pytest.raises(ValueError, match="noise is the control"):
        AttackSpec(Noise(), (8,), only_survivors=True)


def test_progress_has_the_robust_accuracy_so_far_of_the_running_cell():
    truth, clean = truth_and_clean()
    suite = [*LINES[:3], replace(LINES[3], only_survivors=True)]
    steps = []
    outcomes = run(Scored(3), suite=suite, progress=steps.append)
    assert sum(step.done for step in steps) == 12 * sum(len(spec.radii) for spec in suite)
    last = {step.cell: step for step in steps}
    for outcome in outcomes:
        step = last[f"{outcome.spec.name}@{outcome.radius}"]
        assert step.robust == (clean & (outcome.guesses == truth)).sum()
        assert step.pictures == 12
    first = next(step for step in steps if step.cell == "fgsm@8/255")
    assert first.robust == (clean & (outcomes[1].guesses == truth))[:CHUNK].sum()
    assert str(Progress(64, "pgd@2/255", 80, 140)) == "pgd@2/255 57.1 % of 140"


def test_an_evaluation_has_the_cells_and_worst_case_of_its_outcomes():
    model = Scored(3)
    images, truth = pictures(model)
    info = ModelInfo(("a", "b", "c"), ("c",), square(6), "sha256:data")
    test = Pictures(tuple("abcdefghijkl"), images, truth)
    groups = {("label", "a"): truth == 0, ("label", "c"): truth == 2}
    found = robustness.evaluate(
        model, model, test, LINES, info=info, clean=model.forward(images), seed=7, groups=groups
    )
    _, clean = truth_and_clean()
    assert [(c.name, c.radius, c.seed) for c in found.cells] == [
        (line.name, radius, 7) for line in LINES for radius in line.radii
    ]
    for made, outcome in zip(found.cells, found.outcomes, strict=True):
        assert made.robust_accuracy.value == (clean & (outcome.guesses == truth)).mean()
    assert list(found.worst) == [row.radius for row in found.worst_case] == ["1/255", "2/255", "4/255", "8/255"]
    assert found.clean_accuracy.value == clean.mean()
    assert [(row.group, row.pictures) for row in found.subgroups] == [
        ("a", (truth == 0).sum()),
        ("c", (truth == 2).sum()),
    ]


def test_running_in_chunks_changes_nothing(tiny_classifier, tiny_pictures):
    images, truth = tiny_pictures
    suite = [AttackSpec(FGSM(), (1, 4)), AttackSpec(PGD(steps=2), (2,)), AttackSpec(Noise(), (8,))]
    suite += [AttackSpec(PGDL2(steps=2), (200,)), AttackSpec(FGSMTargeted(target=1), (2,))]
    runs = [
        run_suite(tiny_classifier, tiny_classifier, images, truth, suite, seed=3, chunk=chunk)
        for chunk in (3, len(images))
    ]
    assert [(o.spec.attack.name, o.radius) for o in runs[0]] == [
        ("fgsm", "1/255"),
        ("fgsm", "4/255"),
        ("pgd", "2/255"),
        ("noise", "8/255"),
        ("pgd_l2", "200/255"),
        ("fgsm_targeted", "2/255"),
    ]
    for small, large in zip(*runs, strict=True):
        np.testing.assert_allclose(small.logits, large.logits, atol=1e-5)
        np.testing.assert_allclose(small.features, large.features, atol=1e-4)


def test_a_finding_survives_an_attack_that_changes_another_one():
    labels, truth = ("a", "a+b", "b", "no_finding"), np.array([1, 1, 2, 3])
    logits = np.eye(4, dtype=np.float32)[[0, 2, 2, 0]]  # loses b, loses a, stays, gains a
    attacked = AttackOutcome(AttackSpec(FGSM(), ("1/255",)), StatedRadius(1), logits, np.zeros((4, 1)), 1.0)
    (a,), (b,) = (finding_rates([attacked], truth, truth, labels, name) for name in ("a", "b"))
    assert (a.radius, a.sensitivity, a.specificity) == ("1/255", wilson(1, 2), wilson(1, 2))
    assert (b.sensitivity, b.specificity) == (wilson(2, 3), wilson(1, 1))
