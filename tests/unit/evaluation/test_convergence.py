import numpy as np
import pytest

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.evaluation import convergence
from buckler.modality.base import Radius
from buckler.radius import StatedRadius
from tests.unit.linear import Linear
from tests.unit.toy import Brightness


def unflipped(count, *radii):
    """The robust pictures of a suite that flips none."""
    return {StatedRadius(radius): np.ones(count, bool) for radius in radii}


@pytest.fixture
def grey():
    """Twelve pictures of even grey, each a little brighter than the one before, all of class 1."""
    levels = 0.5 + np.arange(1, 13) / 255
    return np.broadcast_to(levels[:, None, None, None], (12, 6, 6, 3)).astype(np.float32).copy()


def test_pictures_flip_at_the_step_that_their_distance_requires(grey):
    [curve] = convergence.measure(Brightness(), grey, np.ones(12, int), np.ones(12, bool), unflipped(12, 6), seed=3)
    assert curve.steps == list(range(41))
    assert np.all(np.diff(curve.success_rate) >= 0)
    # A step is 6/16 of a level. The mean of a random start is about a third of a level: it flips none, and the
    # picture one level away goes within five steps, the next perhaps. Those of seven and more lie outside the ball.
    assert curve.success_rate[:2] == [0, 0]
    assert curve.success_rate[5] in (1 / 12, 2 / 12)
    assert curve.success_rate[-1] in (5 / 12, 6 / 12)


@pytest.mark.parametrize("classes", [2, 7])
def test_the_last_success_rate_is_that_of_the_attack(classes):
    model = Linear(classes)
    images = np.random.default_rng(2).uniform(0.3, 0.7, (40, 6, 6, 3)).astype(np.float32)
    labels = model.logits(images).argmax(axis=1)
    clean = np.ones(40, bool)
    for curve in convergence.measure(model, images, labels, clean, unflipped(40, 4, 12), seed=5):
        moved = PGD(steps=40)(model, Batch(images, labels, seed=5), Radius(curve.radius.number / 255))
        assert curve.success_rate[-1] == (model.logits(moved).argmax(axis=1) != labels).mean()
        assert (curve.attack, curve.pictures) == ("pgd", 40)


def test_pictures_that_are_wrong_when_clean_do_not_count(grey):
    labels = np.ones(12, int)
    clean = np.arange(12) >= 8  # the darker ones count as wrong, so that only pictures beyond small radii remain
    [curve] = convergence.measure(Brightness(), grey, labels, clean, unflipped(12, 2), seed=3)
    assert curve.pictures == 4
    assert curve.success_rate == [0.0] * 41
    assert convergence.measure(Brightness(), grey, labels, np.zeros(12, bool), unflipped(12, 2), seed=3) == []


def test_at_most_64_pictures_are_attacked_and_flipped_ones_no_longer():
    model = Brightness()
    images = np.full((200, 4, 4, 3), 0.501, np.float32)
    [curve] = convergence.measure(model, images, np.ones(200, int), np.ones(200, bool), unflipped(200, 8), seed=1)
    assert curve.pictures == 64
    assert curve.success_rate[-1] == 1
    assert model.passes < 64 * 40 / 2


def test_an_attack_whose_success_still_rises_has_not_converged(grey):
    labels, clean = np.ones(12, int), np.ones(12, bool)
    [early] = convergence.measure(Brightness(), grey, labels, clean, unflipped(12, 12), seed=3, steps=1)
    assert not convergence.is_flat([0.0, 0.5])
    assert not convergence.is_flat([0.0, 0.3, 0.6, 0.9, 1.0])
    assert convergence.is_flat([0.0, 0.5, 0.9, 0.9, 0.91])
    assert convergence.is_flat([0.0] * 41)
    assert early.converged == (early.success_rate[1] - early.success_rate[0] <= 0.02)
    assert not early.converged


def test_the_same_seed_gives_the_same_curve(grey):
    labels, clean = np.ones(12, int), np.ones(12, bool)
    once, again = (
        convergence.measure(Brightness(), grey, labels, clean, unflipped(12, 3, 6), seed=3) for _ in range(2)
    )
    assert once == again


def test_the_suites_flips_are_counted_on_the_same_pictures(grey):
    labels, clean, robust = np.ones(12, int), np.arange(12) >= 4, np.arange(12) >= 7
    [curve] = convergence.measure(Brightness(), grey, labels, clean, {StatedRadius(6): robust}, seed=3)
    assert (curve.pictures, curve.suite_success_rate) == (8, 3 / 8)
