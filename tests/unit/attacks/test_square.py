import numpy as np
import pytest

from buckler.attacks.base import Batch, ScoresOnly
from buckler.attacks.square import Square
from buckler.errors import InputRangeError
from buckler.modality.base import Radius
from buckler.models.forward import probabilities
from tests.unit.linear import Linear
from tests.unit.toy import Brightness

pytestmark = pytest.mark.slow


@pytest.fixture
def grey():
    return np.full((4, 6, 6, 3), 128 / 255, np.float32)


class Counting:
    """Counts the pictures that a function classifies."""

    def __init__(self, scores):
        self.scores, self.asked = scores, 0

    def __call__(self, images):
        self.asked += len(images)
        return self.scores(images)


def robust_accuracy(classifier, adversarial, labels):
    return float((classifier.logits(adversarial).argmax(axis=1) == labels).mean())


def test_scores_alone_lead_to_the_dark_corner_of_the_ball(grey):
    labels = np.ones(4, int)
    adversarial = Square(queries=3000, early_exit=False)(Brightness(), Batch(grey, labels), Radius(0.1))
    np.testing.assert_allclose(adversarial, grey - 0.1, atol=1e-6)


def test_any_function_from_pictures_to_probabilities_can_be_attacked(grey):
    def service(images):
        return probabilities(Brightness().logits(images))

    adversarial = Square(queries=200)(ScoresOnly(service), Batch(grey, np.ones(4, int)), Radius(0.1))
    assert robust_accuracy(Brightness(), adversarial, np.ones(4, int)) == 0.0


@pytest.mark.parametrize("queries", [1, 2, 37])
def test_the_budget_is_never_exceeded(queries):
    white = np.ones((3, 6, 6, 3), np.float32)  # far beyond what the radius can flip
    scores = Counting(Brightness().logits)
    Square(queries=queries)(ScoresOnly(scores), Batch(white, np.ones(3, int)), Radius(0.01))
    assert scores.asked == 3 * queries


def test_only_pictures_that_are_still_right_cost_queries(grey):
    pictures = grey.copy()
    pictures[0] = 1.0
    scores = Counting(Brightness().logits)
    adversarial = Square(queries=300)(ScoresOnly(scores), Batch(pictures, np.ones(4, int)), Radius(0.2))
    assert robust_accuracy(Brightness(), adversarial, np.ones(4, int)) == 0.25
    assert 300 <= scores.asked < 2 * 300


@pytest.mark.parametrize("classes", [2, 7])
def test_no_picture_is_flipped_whose_boundary_lies_beyond_the_radius(classes):
    model = Linear(classes)
    images = np.random.default_rng(3).uniform(0.3, 0.7, (30, 6, 6, 3)).astype(np.float32)
    labels = model.logits(images).argmax(axis=1)
    distance = model.distances(images, labels)
    epsilon = float(np.median(distance))
    adversarial = Square(queries=800)(model, Batch(images, labels), Radius(epsilon))
    flipped = model.logits(adversarial).argmax(axis=1) != labels
    assert not flipped[distance > epsilon].any()
    assert flipped[distance < 0.8 * epsilon].all()


def test_its_robust_accuracy_is_that_of_the_adversarial_robustness_toolbox(small):
    from art.attacks.evasion import SquareAttack

    from tests.unit.attacks.peers import Compiled, art_classifier

    classifier, network, images, labels = small
    theirs, queries, epsilon = art_classifier(Compiled(network)), 100, 30 / 255
    np.random.seed(0)
    attack = SquareAttack(theirs, eps=epsilon, max_iter=queries, nb_restarts=1, batch_size=64, verbose=False)
    peer = robust_accuracy(classifier, attack.generate(images, labels), labels)
    adversarial = Square(queries=queries)(classifier, Batch(images, labels), Radius(epsilon))
    ours = robust_accuracy(classifier, adversarial, labels)
    assert abs(ours - peer) <= 0.1


def test_eight_bit_pictures_stay_eight_bit(tiny, tiny_pictures):
    images = tiny_pictures[0][:2]
    labels = tiny.logits(images).argmax(axis=1)
    adversarial = Square(queries=8)(tiny, Batch(images, labels), Radius(4 / 255))
    levels = adversarial * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert np.abs(adversarial - images).max() <= 4 / 255 + 1e-6


def test_a_pictures_search_depends_on_seed_and_number_and_not_on_its_batch(tiny, tiny_pictures):
    images = tiny_pictures[0][:4]
    labels = tiny.logits(images).argmax(axis=1)
    attack, radius = Square(queries=10), Radius(4 / 255)
    together = attack(tiny, Batch(images, labels, range(10, 14), seed=5), radius)
    alone = attack(tiny, Batch(images[2:3], labels[2:3], [12], seed=5), radius)
    np.testing.assert_array_equal(together[2:3], alone)
    assert np.any(together != attack(tiny, Batch(images, labels, range(10, 14), seed=6), radius))


def test_each_radius_is_reached(grey):
    batch = Batch(grey, np.ones(4, int), range(4))
    radii = [0.05, 0.1]
    results = list(Square(queries=100).each(Brightness(), batch, [Radius(epsilon) for epsilon in radii]))
    assert len(results) == 2
    for epsilon, adversarial in zip(radii, results, strict=True):
        assert np.abs(adversarial - grey).max() == pytest.approx(epsilon, abs=1e-6)


def test_pixels_outside_their_range_are_refused(grey):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        Square()(Brightness(), Batch(grey * 255, np.ones(4, int)), Radius(0.1))
