import numpy as np
import pytest

from buckler.attacks.base import Batch
from buckler.attacks.noise import Noise
from buckler.attacks.universal import Universal, apply_perturbation
from buckler.errors import InputRangeError
from buckler.modality.base import Radius
from tests.unit.toy import Brightness

pytestmark = pytest.mark.slow


@pytest.fixture
def greys():
    shades = np.array([0.52, 0.54, 0.56, 0.58], np.float32)[:, None, None, None]
    return np.ones((4, 6, 6, 3), np.float32) * shades


def robust_accuracy(classifier, adversarial, labels):
    return float((classifier.logits(adversarial).argmax(axis=1) == labels).mean())


def test_one_perturbation_darkens_every_picture(greys):
    perturbation = Universal().learn(Brightness(), Batch(greys, np.ones(4, int)), 0.1)
    assert perturbation.shape == (6, 6, 3)
    assert robust_accuracy(Brightness(), apply_perturbation(greys, perturbation), np.ones(4, int)) == 0.0


def test_misclassified_pictures_do_not_count():
    # Three pictures are wrong and their gradients point upwards; the right one must become darker.
    pictures = np.full((4, 6, 6, 3), 0.9, np.float32)
    pictures[0] = 0.55
    labels = np.array([1, 0, 0, 0])
    perturbation = Universal().learn(Brightness(), Batch(pictures, labels), 0.1)
    adversarial = apply_perturbation(pictures, perturbation)
    assert robust_accuracy(Brightness(), adversarial, labels) == 0.0


def test_it_flips_more_unseen_pictures_than_noise_of_its_size(small):
    from tests.unit.small import pictures

    classifier, _, images, labels = small
    others, truth = pictures(int(labels.max()) + 1, 60, seed=5)
    epsilon = 12 / 255
    perturbation = Universal().learn(classifier, Batch(images, labels, seed=1), epsilon)
    assert np.abs(perturbation).max() <= epsilon + 1e-6
    attacked = robust_accuracy(classifier, apply_perturbation(others, perturbation), truth)
    assert (
        attacked
        <= robust_accuracy(classifier, Noise()(None, Batch(others, np.zeros(len(others), int)), Radius(epsilon)), truth)
        - 0.1
    )


def test_the_order_of_the_pictures_follows_the_seed(small):
    classifier, _, images, labels = small
    attack = Universal(steps=1, batch_size=8)
    first, again, other = (attack.learn(classifier, Batch(images, labels, seed=seed), 8 / 255) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_the_attack_learns_from_its_batch(greys):
    batch = Batch(greys, np.ones(4, int), range(4))
    radii = [Radius(0.01), Radius(0.1)]
    weak, strong = Universal(steps=5).each(Brightness(), batch, radii)
    assert robust_accuracy(Brightness(), weak, np.ones(4, int)) == 1.0
    assert robust_accuracy(Brightness(), strong, np.ones(4, int)) == 0.0
    difference = weak - greys
    np.testing.assert_allclose(difference, np.broadcast_to(difference[0], greys.shape), atol=1e-6)


def test_the_real_network_is_attacked_within_the_ball(tiny, tiny_pictures):
    images = tiny_pictures[0][:5]
    batch = Batch(images, tiny.logits(images).argmax(axis=1), range(5))
    adversarial = Universal(steps=2)(tiny, batch, Radius(4 / 255))
    assert np.abs(adversarial - images).max() <= 4 / 255 + 1e-6
    assert np.any(adversarial != images)


def test_a_perturbation_of_another_size_is_refused(greys):
    with pytest.raises(ValueError, match=r"expected a perturbation of shape \(6, 6, 3\), got \(5, 6, 3\)"):
        apply_perturbation(greys, np.zeros((5, 6, 3), np.float32))


def test_pixels_outside_their_range_are_refused(greys):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        Universal()(Brightness(), Batch(greys * 255, np.ones(4, int)), Radius(0.1))
