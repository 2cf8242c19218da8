from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from buckler.models.forward import probabilities
from buckler.models.networks.base import HeadShape, Standardisation
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


def test_a_standardised_head_learns_whatever_the_sizes_of_the_features(problem):
    copies, labels, (features, truth) = problem
    sizes, schedule = np.geomspace(1e-2, 1e3, 20), replace(SCHEDULE, learning_rate=5e-2)
    scaled = ((copies + 5) * sizes).astype(np.float16), labels, ((features + 5) * sizes, truth)

    def accuracy(standardised):
        head = HeadShape((), 0.0, standardised=standardised)
        _, history = train_head(scaled[0], scaled[1], scaled[2], classes=2, head=head, schedule=schedule)
        return history[-1]["val_accuracy"]

    assert accuracy(True) > 0.9
    assert accuracy(False) < accuracy(True) - 0.2


def test_features_that_do_not_vary_stay_small_in_other_pictures():
    layer = Standardisation()
    layer.build((None, 3))
    layer.adapt(np.random.default_rng(0).normal(size=(2, 50, 3)) * [1, 1, 0])
    assert np.abs(layer(np.array([[0, 0, 0.1]], np.float32))).max() < 0.5
    layer.adapt(np.ones((1, 4, 3)))
    np.testing.assert_array_equal(layer(np.full((1, 3), 3, np.float32)), [[2, 2, 2]])


def test_weight_decay_gives_the_minimum_of_the_penalised_loss(problem):
    """An L2-regularised logistic regression of scikit-learn, whose C is the same penalty."""
    copies, labels, validation = problem
    decay, features = 0.05, copies[:1].astype(np.float32)
    head, _ = train_head(
        features,
        labels,
        validation,
        classes=2,
        head=HeadShape((), 0.0, decay, standardised=True),
        schedule=Schedule(epochs=150, batch_size=160, learning_rate=5e-2, seed=1),
    )
    scaled = (features[0] - features[0].mean(0)) / features[0].std(0)
    # Two columns of weights, opposite and half as large each: half the penalty of one.
    reference = LogisticRegression(C=1 / (decay * len(labels))).fit(scaled, labels)
    logits = np.asarray(head(features[0]))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], reference.decision_function(scaled), atol=0.05)
    assert np.abs(head.get_layer("logits").get_weights()[0]).max() < 1


def test_without_weight_decay_a_head_is_the_same_as_before(problem, trained):
    head, _ = trained
    assert all(layer.kernel_regularizer is None for layer in head.layers if hasattr(layer, "kernel"))
