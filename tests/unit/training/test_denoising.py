import numpy as np
import pytest

from buckler.data import sources
from buckler.errors import DataError
from buckler.modality.picture.images import load_pixels
from buckler.modality.picture.restoration.degradations import degraded
from buckler.training.denoising import DenoiserSchedule, train
from tests.forms import PICTURE


def drawn(seed):
    return np.stack([load_pixels(item.read()) for item in sources.generated(PICTURE, per_class=6, seed=seed, size=64)])


def psnr(one, other):
    return float(-10 * np.log10(((one - other) ** 2).mean(axis=(1, 2, 3))).mean())


@pytest.mark.slow
def test_a_denoiser_trained_for_seconds_restores_pictures_that_it_has_not_seen():
    schedule = DenoiserSchedule(steps=150, batch_size=16, side=32)
    finished = []
    step = train(drawn(seed=1), schedule, lambda number, loss: finished.append((number, loss)))
    clean = drawn(seed=2)
    noisy = degraded(clean, "noise", 4, seed=1)
    assert psnr(step(noisy), clean) > psnr(noisy, clean) + 4
    assert [number for number, _ in finished] == list(range(1, 151))
    assert np.mean([loss for _, loss in finished[-20:]]) < 0.5 * np.mean([loss for _, loss in finished[:20]])


def test_a_seed_repeats_a_training():
    schedule = DenoiserSchedule(steps=2, batch_size=2, side=16)
    one, other = (train(drawn(seed=1), schedule) for _ in range(2))
    images = drawn(seed=3)
    np.testing.assert_array_equal(one(images), other(images))


@pytest.mark.parametrize("shape", [(0, 64, 64, 3), (2, 64, 31, 3)])
def test_too_small_pictures_are_refused(shape):
    with pytest.raises(DataError, match="expected pictures of at least 32 pixels a side"):
        train(np.zeros(shape, np.float32), DenoiserSchedule(steps=1, side=16))
