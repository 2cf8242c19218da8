import sys

import numpy as np
import pytest

from buckler.attacks.ball import largest
from buckler.attacks.base import Batch, LabelsOnly
from buckler.attacks.black_box import HopSkipJump, transfer
from buckler.attacks.iterative import PGD
from buckler.errors import BucklerError, InputRangeError
from buckler.modality.base import Radius
from tests.unit.linear import Linear
from tests.unit.toy import Brightness


@pytest.fixture
def grey():
    return np.full((4, 6, 6, 3), 153 / 255, np.float32)


class Counting:
    """Gives only a classifier's labels, and counts the classified pictures."""

    def __init__(self, classifier):
        self.classifier, self.asked = classifier, 0

    def __call__(self, images):
        self.asked += len(images)
        assert images.min() >= 0
        assert images.max() <= 1
        return self.classifier.logits(images).argmax(axis=1)


def test_labels_alone_lead_close_to_the_nearest_wrong_picture():
    model = Linear(2)
    images = np.random.default_rng(3).uniform(0.3, 0.7, (3, 6, 6, 3)).astype(np.float32)
    guess = Counting(model)
    labels = guess(images)
    found = HopSkipJump(queries=3000).search(LabelsOnly(guess, 7), Batch(images, labels))
    ratio = largest(found - images) / model.distances(images, labels)
    assert (guess(found) != labels).all()
    assert ratio.min() >= 1
    assert ratio.max() <= 1.25


def test_more_queries_come_closer_with_seven_classes():
    model = Linear(7)
    images = np.random.default_rng(3).uniform(0.3, 0.7, (3, 6, 6, 3)).astype(np.float32)
    guess = Counting(model)
    labels = guess(images)
    few, many = (
        HopSkipJump(queries=queries).search(LabelsOnly(guess, 7), Batch(images, labels)) for queries in (200, 4000)
    )
    assert (largest(many - images) < largest(few - images)).all()


@pytest.mark.parametrize("queries", [1, 7, 250])
def test_the_budget_is_never_exceeded(queries, grey):
    guess = Counting(Brightness())
    HopSkipJump(queries=queries).search(LabelsOnly(guess, 7), Batch(grey[:1], np.ones(1, int)))
    assert guess.asked <= queries
    assert guess.asked >= queries - 1 or queries > 200


def test_a_misclassified_picture_costs_one_query(grey):
    guess = Counting(Brightness())
    np.testing.assert_array_equal(HopSkipJump().search(LabelsOnly(guess, 7), Batch(grey, np.zeros(4, int))), grey)
    assert guess.asked == 4


def test_a_model_with_a_single_answer_returns_the_picture(grey):
    found = HopSkipJump(queries=100).search(
        LabelsOnly(lambda images: np.ones(len(images), int), 2), Batch(grey, np.ones(4, int))
    )
    np.testing.assert_array_equal(found, grey)


def test_a_search_depends_on_seed_and_number_and_restores_the_global_generator(grey):
    guess, labels = Counting(Brightness()), np.ones(4, int)
    np.random.seed(1)
    expected = np.random.uniform()
    np.random.seed(1)
    together = HopSkipJump(queries=150).search(LabelsOnly(guess, 7), Batch(grey, labels, range(4), seed=3))
    assert np.random.uniform() == expected
    alone = HopSkipJump(queries=150).search(LabelsOnly(guess, 7), Batch(grey[2:3], labels[2:3], [2], seed=3))
    np.testing.assert_array_equal(together[2:3], alone)
    assert np.any(
        together != HopSkipJump(queries=150).search(LabelsOnly(guess, 7), Batch(grey, labels, range(4), seed=4))
    )


def test_the_entry_serves_all_radii_with_one_search(grey):
    batch = Batch(grey, np.ones(4, int), range(4))
    radii = [0.02, 0.2]
    near, far = HopSkipJump(queries=2000).each(Brightness(), batch, [Radius(epsilon) for epsilon in radii])
    assert (Brightness().logits(near).argmax(axis=1) == 1).all()
    assert (Brightness().logits(far).argmax(axis=1) == 0).all()
    for epsilon, adversarial in zip(radii, (near, far), strict=True):
        assert np.abs(adversarial - grey).max() <= epsilon + 1e-6


def test_the_real_network_is_searched_by_labels(tiny, tiny_pictures):
    images = tiny_pictures[0][:1]
    guess = Counting(tiny)
    labels = guess(images)
    found = HopSkipJump(queries=60).search(LabelsOnly(guess, 7), Batch(images, labels))
    assert guess.asked <= 61
    assert guess(found) != labels or np.array_equal(found, images)


def test_a_missing_toolbox_is_named_with_the_command_that_installs_it(grey, monkeypatch):
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    with pytest.raises(BucklerError, match=r"Adversarial Robustness Toolbox.*buckler\[attacks\]"):
        HopSkipJump().search(LabelsOnly(Counting(Brightness()), 2), Batch(grey, np.ones(4, int)))


def test_pictures_crafted_on_a_surrogate_are_classified_by_the_target(grey):
    batch = Batch(grey, np.ones(4, int), range(4))
    guess = Counting(Brightness(middle=0.55))
    radii = [Radius(8 / 255), Radius(16 / 255)]
    results = list(transfer(PGD(steps=10), Brightness(), guess, batch, radii))
    assert [result.radius for result in results] == radii
    assert [result.guesses.tolist() for result in results] == [[1] * 4, [0] * 4]
    assert guess.asked == 8


def test_transfer_has_no_early_exit_and_sends_8_bit_pictures(grey):
    batch = Batch(grey, np.ones(4, int), range(4))
    surrogate, guess = Brightness(middle=0.59), Counting(Brightness(middle=0.55))
    (result,) = transfer(PGD(steps=10), surrogate, guess, batch, [Radius(16 / 255)])
    np.testing.assert_allclose(result.adversarial * 255, np.full(grey.shape, 153 - 16), atol=1e-4)
    assert (result.guesses == 0).all()


def test_pixels_outside_their_range_are_refused(grey):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        HopSkipJump()(LabelsOnly(Counting(Brightness()), 2), Batch(grey * 255, np.ones(4, int)), Radius(0.1))
