import numpy as np
import pytest

from buckler.attacks.ball import lengths
from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM
from buckler.attacks.iterative import margins
from buckler.attacks.l2 import FGML2, PGDL2
from buckler.errors import InputRangeError
from buckler.modality.base import Radius
from tests.unit.toy import Brightness, Linear


@pytest.fixture(params=[2, 7])
def model_and_pictures(request):
    model = Linear(request.param)
    images = np.random.default_rng(5).uniform(0.3, 0.7, (9, 6, 6, 3)).astype(np.float32)
    return model, images, model.logits(images).argmax(axis=1)


def test_the_step_has_the_radius_for_its_length_and_the_gradient_for_its_direction(model_and_pictures):
    model, images, labels = model_and_pictures
    gradient, _ = model.loss_gradient(images, labels)
    moved = FGML2()(model, Batch(images, labels), Radius(0.4)) - images
    np.testing.assert_allclose(lengths(moved), 0.4, rtol=1e-5)
    np.testing.assert_allclose(moved, 0.4 * gradient / lengths(gradient)[:, None, None, None], atol=1e-6)


def test_at_equal_length_the_gradient_beats_its_sign(model_and_pictures):
    model, images, labels = model_and_pictures
    by_sign = FGSM()(model, Batch(images, labels), Radius(0.01))
    by_gradient = FGML2()(model, Batch(images, labels), Radius(float(lengths(by_sign - images).max())))
    assert margins(model.logits(by_gradient), labels).mean() < margins(model.logits(by_sign), labels).mean()


def test_pgd_flips_exactly_the_pictures_whose_boundary_is_within_the_radius(model_and_pictures):
    model, images, labels = model_and_pictures
    distances = model.distances(images, labels)
    radius = float(np.median(distances))
    result = PGDL2(steps=40, restarts=2)(model, Batch(images, labels), Radius(radius))
    assert (lengths(result - images) <= radius * (1 + 1e-5)).all()
    flipped = model.logits(result).argmax(axis=1) != labels
    assert not flipped[distances > radius * 1.001].any()
    assert flipped[distances < radius * 0.95].all()


def test_pgd_without_early_exit_ends_on_the_sphere():
    grey = np.full((3, 6, 6, 3), 0.5, np.float32)
    moved = (
        PGDL2(steps=20, step_size=0.3, early_exit=False)(Brightness(), Batch(grey, np.ones(3, int)), Radius(0.3)) - grey
    )
    # The gradient is the same in all 108 values; each step halves the remainder of the random start.
    np.testing.assert_allclose(moved, -0.3 / 108**0.5, atol=1e-3)
    np.testing.assert_allclose(lengths(moved), 0.3, rtol=1e-5)


@pytest.mark.parametrize("attack", [FGML2, PGDL2])
def test_without_a_gradient_nothing_leaves_the_ball(attack):
    grey = np.full((2, 6, 6, 3), 0.5, np.float32)
    result = attack()(Brightness(slope=0.0), Batch(grey, np.ones(2, int)), Radius(0.3))
    assert np.isfinite(result).all()
    assert (lengths(result - grey) <= 0.3 + 1e-6).all()


@pytest.mark.parametrize("attack", [FGML2, PGDL2])
def test_pixels_outside_their_range_are_refused(attack):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        attack()(Brightness(), Batch(np.full((1, 6, 6, 3), 2, np.float32), np.ones(1, int)), Radius(0.1))
