import numpy as np
import pytest

from buckler.models.forward import probabilities
from buckler.models.networks.base import HeadShape
from buckler.training.loop import FeatureBatches, Schedule, rotated, train_head

pytestmark = pytest.mark.slow

SCHEDULE = Schedule(epochs=12, batch_size=16, learning_rate=3e-3, seed=1)


@pytest.fixture(scope="module")
def problem():
    """Features whose first column separates the classes, in two copies, and validation features."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 240)
    features = generator.normal(size=(2, 240, 20))
    features[:, :, 0] += 4 * labels
    return features[:, :160].astype(np.float16), labels[:160], (features[0, 160:], labels[160:])


def train(problem, schedule=SCHEDULE):
    copies, labels, validation = problem
    return train_head(copies, labels, validation, classes=2, head=HeadShape((16, 8), 0.1), schedule=schedule)


@pytest.fixture(scope="module")
def trained(problem):
    return train(problem)


def test_the_head_learns_to_separate_the_features(trained):
    _, history = trained
    assert [row["epoch"] for row in history] == list(range(1, 13))
    assert history[-1]["val_accuracy"] > 0.9
    assert history[-1]["loss"] < history[0]["loss"]


def test_same_seed_trains_the_same_head(problem, trained):
    features = problem[2][0].astype(np.float32)
    first, second = (probabilities(head(features).numpy()) for head, _ in (trained, train(problem)))
    np.testing.assert_array_equal(first, second)


def test_an_epoch_has_every_picture_once_as_one_of_its_copies():
    copies = np.arange(2 * 5 * 1, dtype=np.float16).reshape(2, 5, 1)
    labels = np.array([0, 1, 0, 1, 0])
    batches = FeatureBatches(copies, labels, 2, 3, seed=0)
    copies_seen = set()
    for _ in range(20):
        features, targets = (np.concatenate(parts) for parts in zip(*(batches[i] for i in range(2)), strict=True))
        copy, picture = np.divmod(features[:, 0].astype(int), 5)
        assert sorted(picture) == list(range(5))
        np.testing.assert_array_equal(targets.argmax(axis=1), labels[picture])
        copies_seen |= set(copy)
        batches.on_epoch_end()
    assert copies_seen == {0, 1}


def test_rotation_keeps_the_centre_and_the_range_and_depends_on_the_seed():
    images = np.zeros((3, 33, 33, 3), np.float32)
    images[:, 16, 16] = 1
    images[:, 16, 30] = 1
    turned, again = (rotated(images, 15, np.random.default_rng(2)) for _ in range(2))
    np.testing.assert_array_equal(turned, again)
    assert turned.min() >= 0
    assert turned.max() <= 1
    assert (turned[:, 16, 16] > 0.5).all()
    assert np.any(turned[:, 16, 30] < 0.5)
