import numpy as np
import pytest

from buckler.errors import InputRangeError, ModelError
from buckler.models import denoiser, export
from buckler.models.denoiser import Denoiser
from buckler.models.exported_denoiser import ExportedDenoiser


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


def test_it_starts_as_a_mean_over_neighbours_and_not_as_the_noisy_picture(step):
    grey = np.full((1, 48, 48, 3), 0.5, np.float32)
    noisy = grey + np.random.default_rng(1).normal(0, 0.1, grey.shape).astype(np.float32)
    assert (step(noisy) - grey).std() < 0.4 * (noisy - grey).std()


def test_weights_that_are_no_numbers_are_refused(step, tmp_path):
    weights = [np.full_like(values, np.nan) for values in step.network.get_weights()]
    np.savez(tmp_path / "denoiser.npz", **{str(place): values for place, values in enumerate(weights)})
    with pytest.raises(ModelError, match="expected finite numbers"):
        denoiser.load(tmp_path / "denoiser.npz")


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
    path = tmp_path / "new" / "denoiser.npz"
    step.save(path)
    content = path.read_bytes()
    again = denoiser.load(path)
    np.testing.assert_array_equal(again(images), step(images))
    again.save(path)
    assert path.read_bytes() == content


def test_the_exported_step_restores_as_the_trained_one(step, tmp_path):
    images = np.random.default_rng(1).random((3, 20, 30, 3), np.float32)
    export.write_denoiser(step, (20, 30, 3), tmp_path)
    exported = ExportedDenoiser(tmp_path, threads=1)
    np.testing.assert_allclose(exported(images), step(images), atol=1e-5)
    with pytest.raises(ValueError, match=r"expected pictures of shape \(20, 30, 3\)"):
        exported(images[:, :, :20])


@pytest.mark.parametrize("content", [None, b"", b"<net"])
def test_a_damaged_export_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "denoiser.xml").write_bytes(content)
        (tmp_path / "denoiser.bin").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be loaded as an exported denoiser"):
        ExportedDenoiser(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"no weights"])
def test_a_file_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "denoiser.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a file with the weights of the residual CNN"):
        denoiser.load(path)


@pytest.mark.parametrize("change", [{}, {"0": np.zeros(3)}, {"0": np.array([None])}])
def test_weights_of_another_network_are_refused(tmp_path, step, change):
    path, weights = tmp_path / "denoiser.npz", step.network.get_weights()
    arrays = {str(place): values for place, values in enumerate(weights)} | change if change else {"0": weights[0]}
    np.savez(path, **arrays)
    with pytest.raises(ModelError, match="is not a file with the weights of the residual CNN"):
        denoiser.load(path)
