import numpy as np
import pytest

from buckler.modality.picture import benign_changes


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(40, 216, (4, 24, 24, 3)).astype(np.float32) / 255


@pytest.mark.parametrize("radius", [2, 8])
def test_noise_fills_the_radius(pictures, radius):
    moved = benign_changes.noisy(pictures, np.random.default_rng(1), epsilon=radius / 255)
    levels = np.round((moved - pictures) * 255)
    assert np.abs(levels).max() == radius
    assert abs(levels.mean()) < 0.5


def test_stronger_compression_changes_more(pictures):
    lost = [np.abs(benign_changes.recompressed(pictures, quality=q) - pictures).mean() for q in (92, 60)]
    assert 0 < lost[0] < lost[1]


def test_every_change_gives_8_bit_pictures_of_the_same_shape(pictures):
    for change in benign_changes.EVALUATION_CHANGES.values():
        changed = change(pictures, np.random.default_rng(2))
        assert changed.shape == pictures.shape
        assert changed.dtype == np.float32
        np.testing.assert_allclose(changed * 255, np.round(changed * 255), atol=1e-3)
        assert 0 <= changed.min() <= changed.max() <= 1
