import pytest

from buckler.attacks.table import build
from buckler.evaluation import passes
from buckler.evaluation.passes import Passes
from buckler.evaluation.suite import AttackSpec
from tests.forms import PICTURE


def suite(*lines):
    return [
        AttackSpec(build(name, **settings), radii, name=f"{name}{place}", only_survivors=survivors)
        for place, (name, radii, settings, survivors) in enumerate(lines)
    ]


def counted(*lines, stable, classes=2):
    return passes.of_suite(suite(*lines), classes, PICTURE, stable=stable)


@pytest.mark.parametrize("stable", [True, False])
def test_fgsm_takes_one_gradient_for_all_its_radii_and_an_answer_for_each(stable):
    found = counted(("fgsm", (1, 2, 4, 8), {}, False), stable=stable)
    assert found == Passes(gradients=1, forwards=1 + 4)  # and the answers to the unattacked pictures


def test_pgd_takes_all_its_steps_at_each_radius_unless_pictures_give_way():
    line = ("pgd", (1, 2), {"steps": 10}, False)
    assert counted(line, stable=True).gradients == 2 * 10
    assert counted(line, stable=False).gradients < 2 * 10


def test_pictures_that_gave_way_are_not_attacked_again_by_a_line_for_survivors():
    before, after = ("fgsm", (1,), {}, False), ("pgd", (1, 2), {"steps": 10}, True)
    assert counted(before, after, stable=False).gradients == counted(before, stable=False).gradients
    assert counted(before, after, stable=True).gradients == 1 + 2 * 10


def test_random_change_takes_no_gradient():
    assert counted(("noise", (8,), {}, False), stable=True).gradients == 0


@pytest.mark.parametrize(
    "name", ["apgd-ce", "apgd-margin", "fab", "square", "bim", "mifgsm", "fgv", "r_fgsm", "pgd_l2"]
)
@pytest.mark.parametrize("classes", [2, 7])
def test_other_attacks_are_counted_and_pictures_that_withstand_cost_most_gradients(name, classes):
    line = (name, (2,), {"queries": 20} if name == "square" else {}, False)
    most, least = (counted(line, stable=stable, classes=classes) for stable in (True, False))
    assert most.gradients >= least.gradients
    assert least.gradients + least.forwards > 1


def test_the_checks_are_counted_without_the_suite_that_they_doubt():
    lines = suite(("fgsm", (1,), {}, False), ("pgd", (1,), {"steps": 5}, False))
    found = passes.of_checks(lines, 2, PICTURE, stable=True)
    # 40 steps of the convergence curve, twice the steps twice, and the same attack from a surrogate at least
    assert found.gradients > 40 + 2 * 10


def test_passes_add_up():
    assert Passes(1, 2) + Passes(3, 4).times(2) == Passes(7, 10)


def test_pgd_alone_is_counted_by_its_steps_and_radii():
    assert passes.of_pgd(10, 3, PICTURE, stable=True).gradients == 30
