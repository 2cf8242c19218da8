import numpy as np
import pytest

from buckler.errors import InputRangeError, ModelError
from buckler.models import denoiser
from buckler.models.denoiser import Denoiser


@pytest.fixture(scope="module")
def step():
    return Denoiser(denoiser.build(seed=1))


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (1, 33, 47, 3), (1, 5, 3, 3), (0, 16, 16, 3), (17, 16, 16, 3)])
def test_shape_type_and_range_stay(step, shape):
    images = np.random.default_rng(1).random(shape, np.float32)
    restored = step(images)
    assert restored.shape == shape
    assert restored.dtype == np.float32
    assert not restored.size or (restored.min() >= 0 and restored.max() <= 1)
    np.testing.assert_array_equal(step(images), restored)


def test_a_picture_does_not_depend_on_the_others(step):
    images = np.random.default_rng(1).random((20, 16, 16, 3), np.float32)
    np.testing.assert_allclose(step(images[18:19]), step(images)[18:19], atol=1e-6)


def test_values_outside_the_range_are_rejected(step):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        step(np.full((1, 16, 16, 3), -0.5, np.float32))


def test_it_has_fewer_than_50000_weights(step):
    assert 5_000 < step.network.count_params() < 50_000


@pytest.mark.parametrize("sides", [(16, 16), (13, 18)])
def test_the_gradient_is_the_true_one(step, sides):
    generator = np.random.default_rng(2)
    images = generator.uniform(0.3, 0.7, (2, *sides, 3)).astype(np.float32)
    weights = generator.standard_normal(images.shape).astype(np.float32)
    gradient = step.pull_back(images, weights)
    for _ in range(3):
        direction = generator.standard_normal(images.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        width = 0.02
        ahead, behind = (np.vdot(weights, step(images + sign * width * direction)) for sign in (1, -1))
        assert (ahead - behind) / (2 * width) == pytest.approx(np.vdot(gradient, direction), rel=0.05, abs=0.05)


def test_weights_are_written_and_read(step, tmp_path):
    images = np.random.default_rng(1).random((2, 16, 16, 3), np.float32)
    path = tmp_path / "new" / "denoiser.weights.h5"
    step.save(path)
    np.testing.assert_array_equal(denoiser.load(path)(images), step(images))


@pytest.mark.parametrize("content", [None, b"", b"no weights"])
def test_a_file_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "denoiser.weights.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a file with the weights of the residual CNN"):
        denoiser.load(path)


def test_weights_of_another_network_are_refused(tmp_path, tiny_network):
    path = tmp_path / "denoiser.weights.h5"
    tiny_network.save_weights(path)
    with pytest.raises(ModelError, match="is not a file with the weights of the residual CNN"):
        denoiser.load(path)
