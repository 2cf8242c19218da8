import numpy as np
import pytest

from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM, FGV, RFGSM, FGSMLeastLikely, FGSMTargeted, least_likely
from buckler.attacks.table import ATTACKS, build
from buckler.errors import InputRangeError
from buckler.modality.base import Radius
from tests.unit.attacks.settings import with_settings
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
    brighter = FGSMTargeted(target=1)(Brightness(), Batch(grey, np.zeros(4, int)), Radius(0.1))
    np.testing.assert_allclose(brighter, grey + 0.1, atol=1e-6)


def test_a_picture_of_the_target_class_does_not_change(grey):
    result = FGSMTargeted(target=1)(Brightness(), Batch(grey, np.array([0, 1, 0, 1])), Radius(0.1))
    np.testing.assert_array_equal(result[1::2], grey[1::2])
    assert (result[::2] > grey[::2]).all()


def test_on_two_classes_the_targeted_step_is_the_untargeted_one():
    images = np.random.default_rng(1).uniform(0.2, 0.8, (6, 6, 6, 3)).astype(np.float32)
    model, labels = Linear(2), np.array([0, 1, 0, 1, 0, 1])
    away = FGSM()(model, Batch(images, labels), Radius(0.05))
    for target in (0, 1):
        others = labels != target
        towards = FGSMTargeted(target=target)(model, Batch(images[others], labels[others]), Radius(0.05))
        np.testing.assert_allclose(towards, away[others], atol=1e-6)
    np.testing.assert_allclose(FGSMLeastLikely()(model, Batch(images, labels), Radius(0.05)), away, atol=1e-6)


def test_a_targeted_step_raises_its_class_on_seven(seven):
    model, images, labels = seven
    for target in range(7):
        others = labels != target
        result = FGSMTargeted(target=target)(model, Batch(images, labels), Radius(0.02))
        gained = model.logits(result)[:, target] - model.logits(images)[:, target]
        assert (gained[others] > 0).all()


@pytest.mark.parametrize("target", [-1, 7])
def test_a_class_that_the_model_lacks_is_refused(target, seven):
    model, images, labels = seven
    with pytest.raises(ValueError, match="expected a target class of 0 to 6"):
        FGSMTargeted(target=target)(model, Batch(images, labels), Radius(0.1))


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.targeted])
def test_a_targeted_attack_without_a_target_is_refused(name):
    with pytest.raises(ValueError, match=f"expected a target class for {name}, got none"):
        build(name)


def test_the_least_likely_class_is_never_the_true_one():
    logits = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], np.float32)
    assert least_likely(logits, np.array([2, 0])).tolist() == [0, 1]


def test_random_start_and_step_share_the_radius(grey):
    result = RFGSM(alpha=0.04)(Brightness(), Batch(grey, np.ones(4, int), seed=1), Radius(0.1))
    # A step of 0.04 up or down, then 0.06 down.
    assert set(np.rint((result - grey) * 100).ravel().tolist()) == {-10, -2}


@pytest.mark.parametrize(("alpha", "like"), [(0.0, -0.1), (0.1, None)])
def test_either_step_may_have_the_whole_radius(alpha, like, grey):
    moved = RFGSM(alpha=alpha)(Brightness(), Batch(grey, np.ones(4, int)), Radius(0.1)) - grey
    expected = np.abs(moved) if like is None else moved
    np.testing.assert_allclose(expected, 0.1 if like is None else like, atol=1e-6)


def test_a_random_step_beyond_the_radius_is_refused(grey):
    with pytest.raises(ValueError, match="expected alpha between 0 and epsilon"):
        RFGSM(alpha=0.2)(Brightness(), Batch(grey, np.ones(4, int)), Radius(0.1))


def test_the_random_step_depends_on_seed_and_number_and_not_on_the_batch(grey):
    labels = np.array([0, 1, 0, 1])
    together = RFGSM()(Brightness(), Batch(grey, labels, [5, 6, 7, 8], seed=3), Radius(0.1))
    np.testing.assert_array_equal(
        RFGSM()(Brightness(), Batch(grey[2:3], labels[2:3], [7], seed=3), Radius(0.1)), together[2:3]
    )
    assert np.any(RFGSM()(Brightness(), Batch(grey, labels, [5, 6, 7, 8], seed=4), Radius(0.1)) != together)


def test_the_raw_gradient_is_followed_in_proportion(seven):
    model, images, labels = seven
    gradient, _ = model.loss_gradient(images, labels)
    moved = FGV()(model, Batch(images, labels), Radius(0.1)) - images
    np.testing.assert_allclose(np.abs(moved).max(axis=(1, 2, 3)), 0.1, atol=1e-6)
    expected = 0.1 * gradient / np.abs(gradient).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize("attack", [FGSM, FGV, FGSMLeastLikely])
def test_without_a_gradient_nothing_moves(attack, grey):
    flat = Brightness(slope=0.0)
    np.testing.assert_array_equal(attack()(flat, Batch(grey, np.ones(4, int)), Radius(0.1)), grey)


@pytest.mark.parametrize("attack", [FGV, RFGSM, FGSMLeastLikely])
def test_pixels_outside_their_range_are_refused(attack, grey):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        attack()(Brightness(), Batch(grey * 255, np.ones(4, int)), Radius(0.1))


@pytest.mark.parametrize("name", ["fgsm", "fgsm_targeted", "fgsm_least_likely", "fgv"])
def test_one_gradient_serves_every_radius(name, grey):
    classifier = Brightness()
    batch = Batch(grey, np.zeros(4, int), range(4))
    radii = [Radius(0.01), Radius(0.02), Radius(0.04)]
    assert len(list(with_settings(name, target=1).each(classifier, batch, radii))) == 3
    assert classifier.passes == len(grey)
