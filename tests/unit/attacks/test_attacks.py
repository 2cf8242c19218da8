import numpy as np
import pytest

from buckler.attacks.ball import as_8_bit, lengths
from buckler.attacks.base import Batch, Options
from buckler.attacks.gradient import fgsm, fgsm_grid
from buckler.attacks.iterative import margins, pgd
from buckler.attacks.noise import sign_noise
from buckler.attacks.table import ATTACKS
from buckler.errors import InputRangeError
from tests.unit.toy import Brightness


@pytest.fixture
def grey():
    return np.full((4, 6, 6, 3), 128 / 255, np.float32)


def as_batch(images, labels):
    return Batch(images, labels, range(len(images)))


def test_untargeted_step_moves_away_from_the_true_class(grey):
    adversarial = fgsm(Brightness(), grey, np.ones(4, int), epsilon=0.1)
    np.testing.assert_allclose(adversarial, grey - 0.1, atol=1e-6)


def test_one_gradient_serves_every_radius(grey):
    classifier = Brightness()
    grid = list(fgsm_grid(classifier, grey, np.zeros(4, int), epsilons=[1 / 255, 4 / 255]))
    assert classifier.passes == len(grey)
    np.testing.assert_allclose(grid[0], grey + 1 / 255, atol=1e-6)
    np.testing.assert_allclose(grid[1], grey + 4 / 255, atol=1e-6)


def size(perturbation, norm):
    return np.abs(perturbation).max() if norm == "linf" else lengths(perturbation).max()


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("epsilon_255", [0, 1, 8, 510])
def test_result_stays_in_the_ball_and_in_bounds(name, epsilon_255):
    images = np.random.default_rng(1).integers(0, 256, (4, 6, 6, 3)).astype(np.float32) / 255
    labels = np.array([0, 1, 0, 1])
    options = Options(steps=3, early_exit=False, seed=5, target=1)
    epsilon, norm = epsilon_255 / 255, ATTACKS[name].norm
    adversarial = next(iter(ATTACKS[name].craft(Brightness(), as_batch(images, labels), [epsilon], options)))
    assert size(adversarial - images, norm) <= epsilon + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    picture = np.rint(as_8_bit(adversarial, images, epsilon, norm) * 255)
    assert size(picture - np.rint(images * 255), norm) <= epsilon_255 + 1e-3


def small_pgd(images, labels, *, epsilon, seed, ids):
    # Steps so small that the random start still shows.
    return pgd(Brightness(), images, labels, epsilon=epsilon, steps=1, step_size=1e-4, seed=seed, ids=ids)


def noise(images, labels, *, epsilon, seed, ids):
    return sign_noise(images, epsilon=epsilon, seed=seed, ids=ids)


@pytest.mark.parametrize("attack", [small_pgd, noise])
def test_a_pictures_random_draw_follows_seed_and_number_and_not_its_batch_mates(attack, grey):
    labels = np.array([0, 1, 0, 1])
    together = attack(grey, labels, epsilon=4 / 255, seed=3, ids=range(4))
    alone = attack(grey[2:3], labels[2:3], epsilon=4 / 255, seed=3, ids=[2])
    np.testing.assert_array_equal(together[2:3], alone)
    assert np.any(together != attack(grey, labels, epsilon=4 / 255, seed=4, ids=range(4)))
    assert np.any(together[0] != together[2])


def test_pgd_ends_at_the_edge_of_the_ball_that_raises_the_loss(grey):
    adversarial = pgd(Brightness(), grey, np.ones(4, int), epsilon=0.1, early_exit=False)
    np.testing.assert_allclose(adversarial, grey - 0.1, atol=1e-6)


def test_early_exit_saves_gradients_and_still_flips(grey):
    eager, patient = Brightness(), Brightness()
    flipped = pgd(eager, grey, np.ones(4, int), epsilon=0.1, steps=20, step_size=0.02)
    pgd(patient, grey, np.ones(4, int), epsilon=0.1, steps=20, step_size=0.02, early_exit=False)
    assert (eager.logits(flipped).argmax(axis=1) == 0).all()
    assert eager.passes < patient.passes


def test_a_second_start_only_goes_to_pictures_that_held():
    pictures = np.full((2, 6, 6, 3), 0.5, np.float32)
    pictures[0] = 1.0  # far beyond what the radius can flip
    classifier = Brightness()
    result = pgd(classifier, pictures, np.ones(2, int), epsilon=0.05, steps=4, restarts=3)
    assert classifier.logits(result).argmax(axis=1).tolist() == [1, 0]
    held, flipped = 3 * 4, 4
    assert classifier.passes <= held + flipped


def test_margin_is_negative_exactly_for_wrong_answers():
    logits = np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(margins(logits, np.array([0, 1])), [1.0, -1.0])


def test_noise_moves_every_inner_pixel_by_exactly_epsilon(grey):
    np.testing.assert_allclose(np.abs(sign_noise(grey, epsilon=0.1, seed=1) - grey), 0.1, atol=1e-6)


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_pixels_outside_their_range_are_refused(attack, grey):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        attack(Brightness(), grey * 255, np.ones(4, int), epsilon=0.1)
