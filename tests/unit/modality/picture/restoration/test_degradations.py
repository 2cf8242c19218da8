import numpy as np
import pytest

from buckler.data import sources
from buckler.modality.picture.images import load_pixels
from buckler.modality.picture.restoration.degradations import DEGRADATIONS, NOISE_255, SEVERITIES, degraded
from tests.forms import PICTURE


@pytest.fixture(scope="module")
def pictures():
    return np.stack([load_pixels(item.read()) for item in sources.generated(PICTURE, per_class=3, seed=5, size=64)])


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_each_severity_is_further_from_the_picture_than_the_one_before(kind, pictures):
    found = [degraded(pictures, kind, severity, seed=1) for severity in SEVERITIES]
    errors = [((each - pictures) ** 2).mean() for each in found]
    assert errors == sorted(errors)
    assert errors[0] > 0
    assert all(each.dtype == np.float32 and each.min() >= 0 and each.max() <= 1 for each in found)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_seed_repeats_its_draws(kind, pictures):
    np.testing.assert_array_equal(degraded(pictures, kind, 3, seed=1), degraded(pictures, kind, 3, seed=1))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_stated_standard_deviation(severity):
    grey = np.full((2, 64, 64, 3), 0.5, np.float32)
    spread = degraded(grey, "noise", severity, seed=1).std() * 255
    assert spread == pytest.approx(NOISE_255[severity - 1], rel=0.03)


def test_a_cast_moves_red_and_blue_apart_and_leaves_green(pictures):
    found = degraded(pictures, "colour cast", 2, seed=1)
    np.testing.assert_array_equal(found[..., 1], pictures[..., 1])
    assert np.all(np.sign((found - pictures)[..., 0].mean((1, 2))) == -np.sign((found - pictures)[..., 2].mean((1, 2))))


@pytest.mark.parametrize(("kind", "severity"), [("rain", 1), ("noise", 0), ("noise", 6)])
def test_unknown_faults_are_rejected(kind, severity, pictures):
    with pytest.raises(ValueError, match="expected one of noise, blur, JPEG, colour cast in severity 1 to 5"):
        degraded(pictures, kind, severity, seed=1)
