import numpy as np
import pytest

from buckler.attacks.ball import BALLS, lengths, on_grid, project_l2, uniform_l2, unit_l2
from buckler.modality.base import Radius


@pytest.fixture
def pictures():
    return np.random.default_rng(2).integers(0, 256, (5, 8, 8, 3)).astype(np.float32) / 255


def perturbed(pictures, length, seed=3):
    direction = unit_l2(np.random.default_rng(seed).standard_normal(pictures.shape).astype(np.float32))
    return np.clip(pictures + length * direction, 0, 1)


def test_projection_keeps_points_inside_the_ball_and_shortens_others(pictures):
    near, far = perturbed(pictures, 0.1), perturbed(pictures, 2.0)
    np.testing.assert_array_equal(project_l2(near, pictures, 0.5), near)
    shortened = project_l2(far, pictures, 0.5)
    np.testing.assert_allclose(lengths(shortened - pictures), 0.5, rtol=1e-5)
    cosine = np.sum((shortened - pictures) * (far - pictures), axis=(1, 2, 3)) / 0.5 / lengths(far - pictures)
    np.testing.assert_allclose(cosine, 1, atol=1e-5)


def test_projection_to_radius_zero_returns_the_picture(pictures):
    np.testing.assert_allclose(project_l2(perturbed(pictures, 1.0), pictures, 0.0), pictures, atol=1e-7)


def test_zero_scaled_to_unit_length_stays_zero():
    assert not unit_l2(np.zeros((2, 4, 4, 3), np.float32)).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_draws_stay_inside_and_depend_on_seed_and_number_alone(norm, pictures):
    draw = BALLS[norm].draw
    drawn = draw(pictures, 0.3, 7, range(5))
    size = lengths(drawn) if norm == "l2" else np.abs(drawn).max(axis=(1, 2, 3))
    assert (size <= 0.3 * (1 + 1e-6)).all()
    np.testing.assert_array_equal(draw(pictures[3:4], 0.3, 7, [3]), drawn[3:4])
    assert np.any(draw(pictures, 0.3, 8, range(5)) != drawn)


def test_uniform_draws_of_a_flat_ball_spread_over_its_radii():
    drawn = uniform_l2(np.zeros((4000, 1, 1, 2), np.float32), 1.0, 0, range(4000))
    # Half of a disc's area lies beyond 0.707 of its radius.
    assert np.mean(lengths(drawn) > 0.5**0.5) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("radius", [0, 1 / 255, 20 / 255, 0.5, 3.0])
@pytest.mark.parametrize("length", [1e-3, 0.1, 0.5, 3.0])
def test_eight_bit_pictures_stay_in_the_euclidean_ball(pictures, radius, length):
    adversarial = project_l2(perturbed(pictures, length), pictures, radius)
    rounded = on_grid(adversarial, pictures, Radius(radius), "l2")
    assert (lengths(rounded - pictures) <= radius + 1e-5).all()
    np.testing.assert_allclose(rounded * 255, np.rint(rounded * 255), atol=1e-4)
    assert np.abs(rounded - adversarial).max() < 1.001 / 255
    assert rounded.min() >= 0
    assert rounded.max() <= 1


def test_rounding_keeps_a_change_that_is_spread_below_one_level():
    grey = np.full((1, 32, 32, 3), 128 / 255, np.float32)
    gradient = np.random.default_rng(0).standard_normal(grey.shape).astype(np.float32)
    radius = 0.05  # a quarter of a level in each of 3,072 values
    rounded = on_grid(grey + radius * unit_l2(gradient), grey, Radius(radius), "l2") - grey
    gain = np.sum(rounded * unit_l2(gradient)) / radius
    assert lengths(rounded)[0] == pytest.approx(radius, rel=0.02)
    assert gain > 0.5  # rounding to the nearest level would leave next to nothing


def test_rounding_keeps_whole_levels(pictures):
    levels = np.random.default_rng(1).integers(-3, 4, pictures.shape)
    adversarial = (np.clip(np.rint(pictures * 255) + levels, 0, 255) / 255).astype(np.float32)
    radius = float(lengths(adversarial - pictures).max())
    np.testing.assert_allclose(on_grid(adversarial, pictures, Radius(radius), "l2"), adversarial, atol=1e-6)
    np.testing.assert_allclose(on_grid(adversarial, pictures, Radius(3 / 255)), adversarial, atol=1e-6)
