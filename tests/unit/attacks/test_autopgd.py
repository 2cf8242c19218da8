import numpy as np
import pytest

from buckler.attacks.autopgd import APGDCrossEntropy, APGDMargin, checkpoints
from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.errors import InputRangeError
from buckler.modality.base import Radius
from tests.unit.linear import Linear
from tests.unit.toy import Brightness

pytestmark = pytest.mark.slow

LOSSES = {"cross_entropy": APGDCrossEntropy, "margin": APGDMargin}


@pytest.fixture
def grey():
    return np.full((4, 6, 6, 3), 128 / 255, np.float32)


def robust_accuracy(classifier, adversarial, labels):
    return float((classifier.logits(adversarial).argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_the_best_point_is_the_edge_of_the_ball_that_darkens(loss, grey):
    adversarial = LOSSES[loss](steps=20, early_exit=False)(Brightness(), Batch(grey, np.ones(4, int)), Radius(0.1))
    np.testing.assert_allclose(adversarial, grey - 0.1, atol=1e-6)


def test_the_margin_loss_climbs_where_the_cross_entropy_is_flat(grey):
    saturated = Brightness(middle=0.45, slope=1000.0)
    labels = np.ones(4, int)
    flat = APGDCrossEntropy(steps=10)(saturated, Batch(grey, labels), Radius(0.1))
    climbed = APGDMargin(steps=10)(saturated, Batch(grey, labels), Radius(0.1))
    assert robust_accuracy(saturated, flat, labels) == 1.0
    assert robust_accuracy(saturated, climbed, labels) == 0.0


@pytest.mark.parametrize("classes", [2, 7])
def test_it_flips_exactly_the_pictures_whose_boundary_lies_within_the_radius(classes):
    model = Linear(classes)
    images = np.random.default_rng(3).uniform(0.3, 0.7, (40, 6, 6, 3)).astype(np.float32)
    labels = model.logits(images).argmax(axis=1)
    distance = model.distances(images, labels)
    epsilon = float(np.median(distance))
    for loss in LOSSES:
        adversarial = LOSSES[loss](steps=50)(model, Batch(images, labels), Radius(epsilon))
        flipped = model.logits(adversarial).argmax(axis=1) != labels
        assert not (flipped & (distance > epsilon)).any()
        # With many classes the cross-entropy's ascent need not lead to the nearest of them.
        if loss == "margin" or classes == 2:
            np.testing.assert_array_equal(flipped, distance < epsilon)


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_at_least_as_strong_as_pgd_with_as_many_gradients(loss, small):
    classifier, _, images, labels = small
    for epsilon in (4 / 255, 8 / 255):
        plain = robust_accuracy(classifier, PGD(steps=30)(classifier, Batch(images, labels), Radius(epsilon)), labels)
        adversarial = LOSSES[loss](steps=30)(classifier, Batch(images, labels), Radius(epsilon))
        assert robust_accuracy(classifier, adversarial, labels) <= plain + 1 / len(images) + 1e-9


def test_its_robust_accuracy_is_that_of_the_adversarial_robustness_toolbox(small):
    from art.attacks.evasion import AutoProjectedGradientDescent

    from tests.unit.attacks.peers import Compiled, art_classifier

    classifier, network, images, labels = small
    theirs = art_classifier(Compiled(network))
    np.random.seed(0)
    for epsilon in (4 / 255, 8 / 255):
        attack = AutoProjectedGradientDescent(
            theirs, eps=epsilon, eps_step=2 * epsilon, max_iter=30, nb_random_init=1, batch_size=64, verbose=False
        )
        peer = robust_accuracy(classifier, attack.generate(images, labels), labels)
        ours = robust_accuracy(
            classifier, APGDCrossEntropy(steps=30)(classifier, Batch(images, labels), Radius(epsilon)), labels
        )
        assert abs(ours - peer) <= 0.04


def test_early_exit_saves_gradients_and_flips_as_many(grey):
    eager, patient = Brightness(), Brightness()
    flipped = APGDCrossEntropy(steps=30)(eager, Batch(grey, np.ones(4, int)), Radius(0.1))
    APGDCrossEntropy(steps=30, early_exit=False)(patient, Batch(grey, np.ones(4, int)), Radius(0.1))
    assert robust_accuracy(eager, flipped, np.ones(4, int)) == 0.0
    assert patient.passes == 4 * 30
    assert eager.passes < patient.passes / 5


def test_only_robust_pictures_get_another_restart():
    pictures = np.full((2, 6, 6, 3), 0.5, np.float32)
    pictures[0] = 1.0  # far beyond what the radius can flip
    classifier = Brightness()
    result = APGDCrossEntropy(steps=5, restarts=3)(classifier, Batch(pictures, np.ones(2, int)), Radius(0.05))
    assert classifier.logits(result).argmax(axis=1).tolist() == [1, 0]
    assert classifier.passes <= 3 * 5 + 5


@pytest.mark.parametrize("loss", LOSSES)
def test_a_picture_has_the_same_result_alone_and_in_a_batch_on_the_real_network(loss, tiny, tiny_pictures):
    images = tiny_pictures[0][:5]
    labels = tiny.logits(images).argmax(axis=1)
    attack, radius = LOSSES[loss](steps=6), Radius(2 / 255)
    together = attack(tiny, Batch(images, labels, range(10, 15), seed=5), radius)
    alone = attack(tiny, Batch(images[3:4], labels[3:4], [13], seed=5), radius)
    np.testing.assert_allclose(together[3:4], alone, atol=1e-6)
    assert np.abs(together - images).max() <= 2 / 255 + 1e-6
    assert (together >= 0).all()
    assert (together <= 1).all()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_tiny_budget_is_enough_to_run(steps, grey):
    adversarial = APGDCrossEntropy(steps=steps)(Brightness(), Batch(grey, np.ones(4, int)), Radius(0.1))
    assert robust_accuracy(Brightness(), adversarial, np.ones(4, int)) == 0.0


def test_checkpoints_become_more_frequent():
    marks = checkpoints(100)
    gaps = np.diff([0, *marks])
    assert marks[0] == 22
    assert (np.diff(gaps[:-1]) <= 1).all()
    assert gaps.min() >= 6 - 1
    assert marks[-1] < 100


def test_pixels_outside_their_range_are_refused(grey):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        APGDCrossEntropy()(Brightness(), Batch(grey * 255, np.ones(4, int)), Radius(0.1))
