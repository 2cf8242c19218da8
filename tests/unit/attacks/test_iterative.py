import numpy as np
import pytest

from buckler.attacks.base import Batch
from buckler.attacks.iterative import BIM, MIFGSM, PGD, BIMLeastLikely, BIMTargeted, Walk, climb, unit_l1
from buckler.errors import InputRangeError
from buckler.modality.base import Radius
from tests.unit.toy import Brightness, Linear

FROM_THE_PICTURE = [BIM, BIMLeastLikely, MIFGSM]


@pytest.fixture
def grey():
    return np.full((4, 6, 6, 3), 128 / 255, np.float32)


@pytest.fixture
def seven():
    """A model of seven classes, pictures well inside 0..1 and the classes it gives them."""
    model = Linear(7)
    images = np.random.default_rng(5).uniform(0.3, 0.7, (9, 6, 6, 3)).astype(np.float32)
    return model, images, model.logits(images).argmax(axis=1)


class Recording:
    """Returns the given gradients one after another and records the inputs."""

    precision = "float32"

    def __init__(self, gradients):
        self.gradients, self.places = list(gradients), []

    def logits(self, images):
        return np.tile(np.float32([1, 0]), (len(images), 1))

    def loss_gradient(self, images, labels, loss="cross_entropy"):
        self.places.append(images.copy())
        return np.full_like(images, self.gradients[len(self.places) - 1]), self.logits(images)


@pytest.mark.parametrize("attack", FROM_THE_PICTURE)
def test_small_steps_add_up_to_the_radius(attack, grey):
    moved = attack(steps=5, early_exit=False)(Brightness(), Batch(grey, np.ones(4, int)), Radius(0.1)) - grey
    np.testing.assert_allclose(moved, -0.1, atol=1e-6)


@pytest.mark.parametrize("attack", FROM_THE_PICTURE)
def test_early_exit_saves_gradients_and_still_flips(attack, grey):
    eager, patient = Brightness(), Brightness()
    labels = np.ones(4, int)
    flipped = attack(steps=20)(eager, Batch(grey, labels), Radius(0.1))
    attack(steps=20, early_exit=False)(patient, Batch(grey, labels), Radius(0.1))
    assert (eager.logits(flipped).argmax(axis=1) == 0).all()
    assert eager.passes < patient.passes


def test_one_step_of_bim_is_fgsm(seven):
    from buckler.attacks.gradient import FGSM

    model, images, labels = seven
    np.testing.assert_allclose(
        BIM(steps=1)(model, Batch(images, labels), Radius(0.03)),
        FGSM()(model, Batch(images, labels), Radius(0.03)),
        atol=1e-7,
    )


def test_momentum_outweighs_a_weak_reversal_of_the_gradient():
    # Normalised, each gradient counts the same: after two steps up the first step down only cancels one of them.
    images = np.full((1, 2, 2, 3), 0.5, np.float32)
    labels = np.zeros(1, int)
    gradients = [1.0, 100.0, -1.0, -1.0, -1.0]
    with_momentum, without = Recording(gradients), Recording(gradients)
    MIFGSM(steps=5, step_size=0.01)(with_momentum, Batch(images, labels), Radius(0.1))
    MIFGSM(steps=5, step_size=0.01, momentum=0.0)(without, Batch(images, labels), Radius(0.1))
    path = [float(place.mean()) - 0.5 for place in with_momentum.places]
    np.testing.assert_allclose(path, [0, 0.01, 0.02, 0.03, 0.03], atol=1e-6)
    np.testing.assert_allclose([float(p.mean()) - 0.5 for p in without.places], [0, 0.01, 0.02, 0.01, 0], atol=1e-6)


def test_zero_scaled_to_l1_length_one_stays_zero():
    gradient = np.stack([np.zeros((2, 2, 3)), np.full((2, 2, 3), -4.0)]).astype(np.float32)
    np.testing.assert_allclose(np.abs(unit_l1(gradient)).sum(axis=(1, 2, 3)), [0, 1], atol=1e-6)


def test_the_target_is_reached_on_seven_classes(seven):
    model, images, labels = seven
    result = BIMTargeted(target=3, steps=20)(model, Batch(images, labels), Radius(0.2))
    answers = model.logits(result).argmax(axis=1)
    assert (answers == 3).all()
    np.testing.assert_array_equal(result[labels == 3], images[labels == 3])


def test_the_least_likely_class_is_reached_on_seven_classes(seven):
    model, images, labels = seven
    least = model.logits(images).argmin(axis=1)
    result = BIMLeastLikely(steps=20)(model, Batch(images, labels), Radius(0.3))
    np.testing.assert_array_equal(model.logits(result).argmax(axis=1), least)


def test_a_class_that_the_model_lacks_is_refused(seven):
    model, images, labels = seven
    with pytest.raises(ValueError, match="expected a target class of 0 to 6"):
        BIMTargeted(target=9)(model, Batch(images, labels), Radius(0.1))


@pytest.mark.parametrize("momentum", [None, 1.0])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_pictures_result_does_not_depend_on_its_batch(norm, momentum, seven):
    model, images, labels = seven
    walk = Walk(6, 0.02, restarts=2, random_start=True, momentum=momentum, norm=norm)
    together = climb(model, Batch(images, labels, seed=3), walk, 0.05)
    alone = climb(model, Batch(images[4:5], labels[4:5], [4], seed=3), walk, 0.05)
    np.testing.assert_allclose(together[4:5], alone, atol=1e-6)


@pytest.mark.parametrize("attack", [PGD, *FROM_THE_PICTURE])
def test_pixels_outside_their_range_are_refused(attack, grey):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        attack()(Brightness(), Batch(grey * 255, np.ones(4, int)), Radius(0.1))
