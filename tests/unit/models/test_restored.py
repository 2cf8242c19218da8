import numpy as np
import pytest

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.modality.base import Radius
from buckler.modality.picture.restoration.base import Step
from buckler.models.restored import RestoredClassifier
from tests.unit.toy import Brightness


class Rounded(Step):
    """Rounds to 17 levels: its derivative is zero almost everywhere."""

    name = title = source = "rounded"

    def __call__(self, images):
        return np.rint(images * 16).astype(np.float32) / 16


class Negative(Step):
    """A step with a known true derivative, minus one."""

    name = title = source = "negative"

    def __call__(self, images):
        return 1 - images

    def pull_back(self, images, gradient):
        return -gradient


@pytest.fixture
def grey():
    return np.random.default_rng(1).uniform(0.52, 0.62, (6, 8, 8, 3)).astype(np.float32)


def test_answers_are_those_for_the_restored_pictures(grey):
    toy = Brightness()
    np.testing.assert_array_equal(RestoredClassifier(Negative(), toy).logits(grey), toy.logits(1 - grey))


def test_a_step_without_derivative_passes_the_gradient_at_the_restored_pictures(grey):
    labels, toy, step = np.ones(6, int), Brightness(), Rounded()
    tiny = 1e-4
    np.testing.assert_array_equal(step(grey + tiny).mean((1, 2, 3)).round(2), step(grey).mean((1, 2, 3)).round(2))
    gradient, logits = RestoredClassifier(step, toy).loss_gradient(grey, labels)
    expected, expected_logits = toy.loss_gradient(step(grey), labels)
    np.testing.assert_array_equal(gradient, expected)
    np.testing.assert_array_equal(logits, expected_logits)
    assert np.abs(gradient).min() > 0


def test_a_true_derivative_is_used_where_there_is_one(grey):
    labels, toy = np.ones(6, int), Brightness()
    gradient, _ = RestoredClassifier(Negative(), toy).loss_gradient(grey, labels)
    np.testing.assert_array_equal(gradient, -toy.loss_gradient(1 - grey, labels)[0])


def test_the_derivative_of_a_similar_step_can_stand_for_it(grey):
    labels, toy = np.ones(6, int), Brightness()
    gradient, _ = RestoredClassifier(Rounded(), toy, backward=Negative()).loss_gradient(grey, labels)
    np.testing.assert_array_equal(gradient, -toy.loss_gradient(Rounded()(grey), labels)[0])


def test_pgd_gets_through_a_step_that_hides_its_gradient(grey):
    labels, model = np.ones(6, int), RestoredClassifier(Rounded(), Brightness())
    assert (model.logits(grey).argmax(axis=1) == labels).all()
    adversarial = PGD(steps=10)(model, Batch(grey, labels), Radius(0.2))
    assert (model.logits(adversarial).argmax(axis=1) != labels).all()
    assert np.abs(adversarial - grey).max() <= 0.2 + 1e-6
