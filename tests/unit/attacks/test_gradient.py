import numpy as np
import pytest

from buckler.attacks.base import Batch, Options
from buckler.attacks.gradient import fgsm, fgsm_least_likely, fgsm_targeted, fgv, least_likely, r_fgsm
from buckler.attacks.table import ATTACKS
from buckler.errors import InputRangeError
from tests.unit.toy import Brightness, Linear


@pytest.fixture
def grey():
    return np.full((4, 6, 6, 3), 128 / 255, np.float32)


@pytest.fixture
def seven():
    """A model of seven classes, pictures well inside 0..1 and the classes it gives them."""
    model = Linear(7)
    images = np.random.default_rng(5).uniform(0.3, 0.7, (9, 6, 6, 3)).astype(np.float32)
    return model, images, model.logits(images).argmax(axis=1)


def test_a_targeted_step_moves_towards_its_class(grey):
    brighter = fgsm_targeted(Brightness(), grey, np.zeros(4, int), target=1, epsilon=0.1)
    np.testing.assert_allclose(brighter, grey + 0.1, atol=1e-6)


def test_a_picture_of_the_target_class_stays_as_it_is(grey):
    result = fgsm_targeted(Brightness(), grey, np.array([0, 1, 0, 1]), target=1, epsilon=0.1)
    np.testing.assert_array_equal(result[1::2], grey[1::2])
    assert (result[::2] > grey[::2]).all()


def test_on_two_classes_the_targeted_step_is_the_untargeted_one():
    images = np.random.default_rng(1).uniform(0.2, 0.8, (6, 6, 6, 3)).astype(np.float32)
    model, labels = Linear(2), np.array([0, 1, 0, 1, 0, 1])
    away = fgsm(model, images, labels, epsilon=0.05)
    towards = fgsm_targeted(model, images, labels, target=1 - labels, epsilon=0.05)
    np.testing.assert_allclose(towards, away, atol=1e-6)
    np.testing.assert_allclose(fgsm_least_likely(model, images, labels, epsilon=0.05), away, atol=1e-6)


def test_a_targeted_step_raises_its_class_on_seven(seven):
    model, images, labels = seven
    for target in range(7):
        others = labels != target
        result = fgsm_targeted(model, images, labels, target=target, epsilon=0.02)
        gained = model.logits(result)[:, target] - model.logits(images)[:, target]
        assert (gained[others] > 0).all()


@pytest.mark.parametrize("target", [-1, 7])
def test_a_class_that_the_model_lacks_is_refused(target, seven):
    model, images, labels = seven
    with pytest.raises(ValueError, match="expected a target class of 0 to 6"):
        fgsm_targeted(model, images, labels, target=target, epsilon=0.1)


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.targeted])
def test_a_targeted_entry_without_a_target_is_refused(name, grey):
    batch = Batch(grey, np.zeros(4, int), range(4))
    with pytest.raises(ValueError, match="needs a target class"):
        next(ATTACKS[name].craft(Brightness(), batch, [0.1], Options()))


def test_the_least_likely_class_is_never_the_true_one():
    logits = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], np.float32)
    assert least_likely(logits, np.array([2, 0])).tolist() == [0, 1]


def test_random_start_and_step_share_the_radius(grey):
    result = r_fgsm(Brightness(), grey, np.ones(4, int), epsilon=0.1, alpha=0.04, seed=1)
    # A step of 0.04 up or down, then 0.06 down.
    assert set(np.rint((result - grey) * 100).ravel().tolist()) == {-10, -2}


@pytest.mark.parametrize(("alpha", "like"), [(0.0, -0.1), (0.1, None)])
def test_all_of_the_radius_may_go_to_one_of_the_two(alpha, like, grey):
    moved = r_fgsm(Brightness(), grey, np.ones(4, int), epsilon=0.1, alpha=alpha) - grey
    expected = np.abs(moved) if like is None else moved
    np.testing.assert_allclose(expected, 0.1 if like is None else like, atol=1e-6)


def test_a_random_step_beyond_the_radius_is_refused(grey):
    with pytest.raises(ValueError, match="expected alpha between 0 and epsilon"):
        r_fgsm(Brightness(), grey, np.ones(4, int), epsilon=0.1, alpha=0.2)


def test_the_random_step_follows_seed_and_number_and_not_batch_mates(grey):
    labels = np.array([0, 1, 0, 1])
    together = r_fgsm(Brightness(), grey, labels, epsilon=0.1, seed=3, ids=[5, 6, 7, 8])
    np.testing.assert_array_equal(
        r_fgsm(Brightness(), grey[2:3], labels[2:3], epsilon=0.1, seed=3, ids=[7]), together[2:3]
    )
    assert np.any(r_fgsm(Brightness(), grey, labels, epsilon=0.1, seed=4, ids=[5, 6, 7, 8]) != together)


def test_the_raw_gradient_is_followed_in_proportion(seven):
    model, images, labels = seven
    gradient, _ = model.loss_gradient(images, labels)
    moved = fgv(model, images, labels, epsilon=0.1) - images
    np.testing.assert_allclose(np.abs(moved).max(axis=(1, 2, 3)), 0.1, atol=1e-6)
    expected = 0.1 * gradient / np.abs(gradient).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize("attack", [fgsm, fgv, fgsm_least_likely])
def test_without_a_gradient_nothing_moves(attack, grey):
    flat = Brightness(slope=0.0)
    np.testing.assert_array_equal(attack(flat, grey, np.ones(4, int), epsilon=0.1), grey)


@pytest.mark.parametrize("attack", [fgv, r_fgsm, fgsm_least_likely])
def test_pixels_outside_their_range_are_refused(attack, grey):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        attack(Brightness(), grey * 255, np.ones(4, int), epsilon=0.1)


@pytest.mark.parametrize("name", ["fgsm", "fgsm_targeted", "fgsm_least_likely", "fgv"])
def test_one_gradient_serves_every_radius(name, grey):
    classifier = Brightness()
    batch = Batch(grey, np.zeros(4, int), range(4))
    assert len(list(ATTACKS[name].craft(classifier, batch, [0.01, 0.02, 0.04], Options(target=1)))) == 3
    assert classifier.passes == len(grey)
