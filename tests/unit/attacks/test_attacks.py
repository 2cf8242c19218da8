import numpy as np
import pytest

from buckler.attacks.ball import lengths, on_grid
from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM
from buckler.attacks.iterative import PGD, margins
from buckler.attacks.noise import Noise
from buckler.attacks.table import ATTACKS
from buckler.errors import InputRangeError
from buckler.modality.base import Radius, RadiusUnit
from tests.unit.attacks.settings import with_settings
from tests.unit.toy import Brightness, Linear

PERCENT = RadiusUnit(100, " %", 255)


@pytest.fixture
def grey():
    return np.full((4, 6, 6, 3), 128 / 255, np.float32)


def test_untargeted_step_moves_away_from_the_true_class(grey):
    adversarial = FGSM()(Brightness(), Batch(grey, np.ones(4, int)), Radius(0.1))
    np.testing.assert_allclose(adversarial, grey - 0.1, atol=1e-6)


def test_one_gradient_serves_every_radius(grey):
    classifier = Brightness()
    grid = list(FGSM().each(classifier, Batch(grey, np.zeros(4, int)), [Radius(1 / 255), Radius(4 / 255)]))
    assert classifier.passes == len(grey)
    np.testing.assert_allclose(grid[0], grey + 1 / 255, atol=1e-6)
    np.testing.assert_allclose(grid[1], grey + 4 / 255, atol=1e-6)


def size(perturbation, norm):
    return np.abs(perturbation).max() if norm == "linf" else lengths(perturbation).max()


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("levels", [0, 1, 8, 510])
def test_result_stays_in_the_ball_and_in_bounds(name, levels):
    images = np.random.default_rng(1).integers(0, 256, (4, 6, 6, 3)).astype(np.float32) / 255
    labels = np.array([0, 1, 0, 1])
    attack = with_settings(name, steps=3, early_exit=False, target=1)
    radius, norm = Radius(levels / 255), attack.norm
    adversarial = attack(Brightness(), Batch(images, labels, seed=5), radius)
    assert size(adversarial - images, norm) <= radius.value + 1e-6
    assert adversarial.min() >= attack.bounds[0]
    assert adversarial.max() <= attack.bounds[1]
    picture = np.rint(on_grid(adversarial, images, radius, norm) * 255)
    assert size(picture - np.rint(images * 255), norm) <= levels + 1e-3


def small_pgd(images, labels, *, epsilon, seed, ids):
    # Steps so small that the random start still shows.
    return PGD(steps=1, step_size=1e-4)(Brightness(), Batch(images, labels, ids, seed=seed), Radius(epsilon))


def noise(images, labels, *, epsilon, seed, ids):
    return Noise()(None, Batch(images, np.zeros(len(images), int), ids, seed=seed), Radius(epsilon))


@pytest.mark.parametrize("attack", [small_pgd, noise])
def test_a_pictures_random_draw_depends_on_seed_and_number_and_not_on_its_batch(attack, grey):
    labels = np.array([0, 1, 0, 1])
    together = attack(grey, labels, epsilon=4 / 255, seed=3, ids=range(4))
    alone = attack(grey[2:3], labels[2:3], epsilon=4 / 255, seed=3, ids=[2])
    np.testing.assert_array_equal(together[2:3], alone)
    assert np.any(together != attack(grey, labels, epsilon=4 / 255, seed=4, ids=range(4)))
    assert np.any(together[0] != together[2])


def test_pgd_ends_at_the_edge_of_the_ball_that_raises_the_loss(grey):
    adversarial = PGD(early_exit=False)(Brightness(), Batch(grey, np.ones(4, int)), Radius(0.1))
    np.testing.assert_allclose(adversarial, grey - 0.1, atol=1e-6)


def test_early_exit_saves_gradients_and_still_flips(grey):
    eager, patient = Brightness(), Brightness()
    flipped = PGD(steps=20, step_size=0.02)(eager, Batch(grey, np.ones(4, int)), Radius(0.1))
    PGD(steps=20, step_size=0.02, early_exit=False)(patient, Batch(grey, np.ones(4, int)), Radius(0.1))
    assert (eager.logits(flipped).argmax(axis=1) == 0).all()
    assert eager.passes < patient.passes


def test_only_robust_pictures_get_a_second_start():
    pictures = np.full((2, 6, 6, 3), 0.5, np.float32)
    pictures[0] = 1.0  # far beyond what the radius can flip
    classifier = Brightness()
    result = PGD(steps=4, restarts=3)(classifier, Batch(pictures, np.ones(2, int)), Radius(0.05))
    assert classifier.logits(result).argmax(axis=1).tolist() == [1, 0]
    held, flipped = 3 * 4, 4
    assert classifier.passes <= held + flipped


def test_margin_is_negative_exactly_for_wrong_answers():
    logits = np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(margins(logits, np.array([0, 1])), [1.0, -1.0])


def test_noise_moves_every_inner_pixel_by_exactly_epsilon(grey):
    np.testing.assert_allclose(
        np.abs(Noise()(None, Batch(grey, np.zeros(len(grey), int), seed=1), Radius(0.1)) - grey), 0.1, atol=1e-6
    )


@pytest.mark.parametrize("attack", [FGSM, PGD])
def test_pixels_outside_their_range_are_refused(attack, grey):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        attack()(Brightness(), Batch(grey * 255, np.ones(4, int)), Radius(0.1))


class Bright(Noise):
    """Noise for inputs whose values are at least one half."""

    bounds = (0.5, 1.0)


def test_inputs_outside_the_bounds_of_an_attack_are_refused(grey):
    batch = Batch(grey - 0.1, np.ones(4, int))
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0.5, 1\]"):
        Bright()(None, batch, Radius(0.1))


class Flat(Linear):
    """The linear model over records of any shape."""

    def __init__(self, shape):
        super().__init__(3, shape)


@pytest.mark.parametrize("shape", [(12,), (7, 3)])
@pytest.mark.parametrize("name", sorted(name for name, attack in ATTACKS.items() if attack.modalities is None))
def test_an_attack_without_a_modality_takes_records_of_any_shape(name, shape):
    model = Flat(shape)
    images = np.random.default_rng(1).uniform(0.2, 0.8, (4, *shape)).astype(np.float32)
    attack = with_settings(name, steps=50, target=1)
    adversarial = attack(model, Batch(images, model.logits(images).argmax(axis=1)), Radius(0.1))
    assert adversarial.shape == images.shape
    assert size(adversarial - images, attack.norm) <= 0.1 + 1e-6
    assert attack.control or np.any(adversarial != images)


@pytest.mark.parametrize("name", ["square", "hop_skip_jump"])
def test_an_attack_on_pictures_refuses_other_records(name):
    with pytest.raises(ValueError, match=rf"{name}: expected inputs with 3 axes, got shape \(2, 12\)"):
        with_settings(name)(Flat((12,)), Batch(np.full((2, 12), 0.5, np.float32), np.zeros(2, int)), Radius(0.1))


@pytest.mark.parametrize(
    ("radius", "text"), [(Radius(8 / 255), "8/255"), (Radius(0.5 / 255), "0.5/255"), (Radius(0.02, PERCENT), "2 %")]
)
def test_a_radius_is_written_in_its_unit(radius, text):
    assert str(radius) == text


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match="expected a radius of at least 0"):
        Radius(-0.1)
