import numpy as np
import pytest

from buckler.models.backend import keras
from buckler.models.classifier import Classifier
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.models.randomised import Randomisation, RandomisedInput
from tests.forms import square


def changed(images, smallest=1.0, noise_255=0.0, seed=3):
    return np.asarray(RandomisedInput(smallest, noise_255, seed)(images))


@pytest.fixture
def spot():
    """Six black pictures with a white square in the middle and a grey edge."""
    images = np.full((6, 40, 40, 3), 0.25, np.float32)
    images[:, 10:30, 10:30] = 1
    return images


def test_without_shrinking_and_noise_pictures_are_unchanged(spot):
    np.testing.assert_allclose(changed(spot), spot, atol=1e-6)


def test_each_picture_is_shrunk_moved_and_padded_with_its_edge(spot):
    result = changed(spot, smallest=0.5)
    areas = (result[..., 0] > 0.9).sum(axis=(1, 2))
    assert len(set(areas.tolist())) > 3
    assert np.all((areas >= 0.2 * 400) & (areas <= 400))
    assert result.min() >= 0.25 - 1e-5


def test_noise_has_the_stated_standard_deviation(spot):
    assert (changed(spot, noise_255=8) - spot).std() == pytest.approx(8 / 255, rel=0.05)


def test_passes_differ_and_a_new_layer_with_the_same_seed_repeats_them(spot):
    layer = RandomisedInput(0.7, 4, seed=5)
    first, second = np.asarray(layer(spot)), np.asarray(layer(spot))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(changed(spot, 0.7, 4, seed=5), first)


def test_a_network_stays_random_after_saving_and_in_bfloat16(tiny_pictures, tmp_path):
    before = RandomisedInput(0.8, 8, seed=1, name="randomised")
    network = TINY.build(square(32), 2, head=HeadShape((16, 8)), seed=1, before=before)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras", compile=False, safe_mode=True)
    images, labels = tiny_pictures
    for precision in ("float32", "bfloat16"):
        classifier = Classifier(loaded, precision, batch_size=4)
        assert not np.array_equal(classifier.logits(images), classifier.logits(images))
        gradient, _ = classifier.loss_gradient(images, labels)
        assert np.all(np.any(gradient != 0, axis=(1, 2, 3)))


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (1.2, 1.0), (0.9, -1.0)])
def test_an_invalid_randomisation_is_rejected(wrong):
    with pytest.raises(ValueError, match="smallest above 0"):
        Randomisation(*wrong)
