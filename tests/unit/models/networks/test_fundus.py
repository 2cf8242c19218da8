import numpy as np
import pytest

from buckler.models.backend import tf
from buckler.models.networks.fundus import LevelLight

pytestmark = pytest.mark.slow

SIDE = 112


@pytest.fixture(scope="module")
def eye():
    """A disc with a vessel on black, and where the disc is."""
    down, across = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disc = np.hypot(down, across) < 50
    picture = np.where(disc, 0.5, 0)[..., None] * np.array([1, 0.6, 0.4], np.float32)
    picture[(np.abs(across) < 1) & disc] *= 0.8
    return picture.astype(np.float32), disc


def levelled(*pictures):
    return np.asarray(LevelLight()(np.stack(pictures)))


def test_the_vessel_stays_and_everything_else_becomes_grey(eye):
    picture, disc = eye
    (found,) = levelled(picture)
    assert found[SIDE // 2, SIDE // 2 - 1 : SIDE // 2 + 1].max() < 0.3
    np.testing.assert_allclose(found[~disc], 0.5)
    np.testing.assert_allclose(found[40:70, 20:40], 0.5, atol=0.05)


def test_uneven_light_changes_little(eye):
    picture, _ = eye
    light = np.linspace(0.7, 1.3, SIDE, dtype=np.float32)[:, None, None]
    even, uneven = levelled(picture, picture * light)
    inner = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)) < 40
    assert np.abs(picture * light - picture)[inner].mean() > 0.03
    assert np.abs(even - uneven)[inner].mean() < 0.015


def test_a_dimmer_camera_gives_nearly_the_same_picture(eye):
    picture, _ = eye
    bright, dim = levelled(picture, 0.7 * picture)
    np.testing.assert_allclose(bright, dim, atol=0.05)


def test_a_picture_does_not_depend_on_the_others_of_its_batch(eye):
    picture, _ = eye
    other = np.random.default_rng(0).random(picture.shape, np.float32)
    np.testing.assert_allclose(levelled(picture, other)[0], levelled(picture)[0], atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.05, 1.0])
def test_a_uniform_picture_has_finite_pixels_and_gradients(value):
    pixels = tf.constant(np.full((1, SIDE, SIDE, 3), value, np.float32))
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        found = LevelLight()(pixels)
        total = tf.reduce_sum(found**2)
    assert np.isfinite(tape.gradient(total, pixels)).all()
    assert 0 <= np.min(found) <= np.max(found) <= 1
