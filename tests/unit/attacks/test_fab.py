import numpy as np
import pytest

from buckler.attacks.autopgd import APGDCrossEntropy
from buckler.attacks.ball import largest, on_grid
from buckler.attacks.base import Batch
from buckler.attacks.fab import FAB, nearest_on_plane, within
from buckler.errors import InputRangeError
from buckler.modality.base import Radius
from tests.unit.linear import Linear
from tests.unit.toy import Brightness

pytestmark = pytest.mark.slow


def guess(classifier):
    return lambda images: classifier.logits(images).argmax(axis=1)


def linear_task(classes):
    model = Linear(classes)
    images = np.random.default_rng(3).uniform(0.3, 0.7, (40, 6, 6, 3)).astype(np.float32)
    return model, images, model.logits(images).argmax(axis=1)


@pytest.mark.parametrize("classes", [2, 7])
def test_the_nearest_wrong_picture_of_a_linear_model_is_found_within_two_percent(classes):
    model, images, labels = linear_task(classes)
    found = FAB(steps=10).search(model, Batch(images, labels))
    assert (guess(model)(found) != labels).all()
    ratio = largest(found - images) / model.distances(images, labels)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.02


def test_two_classes_cost_one_gradient_a_step():
    model, images, labels = linear_task(2)
    FAB(steps=10).search(model, Batch(images, labels))
    assert model.passes == 10 * len(images)


def test_brightness_needs_every_pixel_to_darken_by_the_distance_of_the_mean():
    grey = np.full((2, 6, 6, 3), 0.6, np.float32)
    found = FAB(steps=5).search(Brightness(), Batch(grey, np.ones(2, int)))
    np.testing.assert_allclose(found, 0.5, atol=0.002)
    assert (guess(Brightness())(found) == 0).all()


def test_other_pixels_compensate_for_pixels_at_the_end_of_their_range():
    picture = np.full((1, 6, 6, 3), 0.6, np.float32)
    picture[0, :3] = 0.02  # half the pixels can hardly darken
    found = FAB(steps=5).search(Brightness(middle=0.2), Batch(picture, np.ones(1, int)))
    np.testing.assert_allclose(found[0, :3], 0, atol=1e-6)
    np.testing.assert_allclose(found[0, 3:], 0.4, atol=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_the_projection_is_the_optimum_that_linear_programming_finds(seed):
    from scipy.optimize import linprog

    generator = np.random.default_rng(seed)
    point, normal = generator.uniform(0, 1, 12), generator.normal(0, 1, 12)
    normal[3] = 0
    gap = generator.normal(0, 2)
    found = nearest_on_plane(point, normal, gap)
    # Variables: the move of each value, then the bound t on all of them.
    each = np.hstack([np.vstack([np.eye(12), -np.eye(12)]), -np.ones((24, 1))])
    optimum = linprog(
        np.eye(13)[12],
        A_ub=each,
        b_ub=np.zeros(24),
        A_eq=np.append(normal, 0)[None],
        b_eq=[-gap],
        bounds=[*zip(-point, 1 - point, strict=True), (0, None)],
    )
    assert found.min() >= 0
    assert found.max() <= 1
    if optimum.success:
        assert normal @ (found - point) == pytest.approx(-gap, abs=1e-9)
        assert np.abs(found - point).max() == pytest.approx(optimum.fun, abs=1e-7)


def test_a_plane_that_misses_the_box_gives_the_nearest_corner():
    found = nearest_on_plane(np.full(3, 0.5), np.array([1.0, -2.0, 1.0]), 100.0)
    np.testing.assert_array_equal(found, [0, 1, 0])


def test_it_is_as_strong_as_autopgd_at_every_radius(small):
    classifier, _, images, labels = small
    found = FAB(steps=20).search(classifier, Batch(images, labels))
    for epsilon in (4 / 255, 8 / 255):
        adversarial = APGDCrossEntropy(steps=20)(classifier, Batch(images, labels), Radius(epsilon))
        climbed = (guess(classifier)(adversarial) == labels).mean()
        held = (largest(found - images) > epsilon) | (guess(classifier)(found) == labels)
        assert abs(held.mean() - climbed) <= 0.04


def test_the_search_stays_within_its_reach(small):
    classifier, _, images, labels = small
    near = largest(FAB(steps=10).search(classifier, Batch(images, labels), reach=8 / 255) - images)
    assert near.max() <= 8 / 255 + 1e-6
    assert (near > 0).any()


def test_a_restart_never_increases_the_distance(small):
    classifier, _, images, labels = small
    distances = [
        largest(FAB(steps=5, restarts=r).search(classifier, Batch(images[:8], labels[:8])) - images[:8]) for r in (1, 2)
    ]
    assert (distances[1] <= distances[0] * 1.02 + 1e-6).all()


def test_one_run_serves_all_radii_and_survives_rounding_to_8_bits(small):
    classifier, _, images, labels = small
    images, labels = images[:30], labels[:30]
    radii = [2 / 255, 4 / 255, 8 / 255]
    batch = Batch(images, labels, range(len(images)))
    found = FAB(steps=20).search(classifier, Batch(images, labels))
    crafted = FAB(steps=20, early_exit=False).each(classifier, batch, [Radius(epsilon) for epsilon in radii])
    for epsilon, adversarial in zip(radii, crafted, strict=True):
        assert np.abs(adversarial - images).max() <= epsilon + 1e-6
        near = largest(found - images) <= epsilon
        wrong = guess(classifier)(adversarial) != labels
        assert wrong[near & (guess(classifier)(found) != labels)].all()
        rounded = on_grid(adversarial, images, Radius(epsilon))
        assert (guess(classifier)(rounded) != labels).sum() >= wrong.sum() - 2


def test_a_misclassified_picture_is_returned_unchanged():
    dark = np.full((1, 6, 6, 3), 0.4, np.float32)
    np.testing.assert_array_equal(FAB().search(Brightness(), Batch(dark, np.ones(1, int))), dark)


def test_early_exit_saves_gradients_on_pictures_nearer_than_the_smallest_radius():
    spent = {}
    for early_exit in (True, False):
        model, images, labels = linear_task(7)
        batch = Batch(images, labels, range(len(images)))
        FAB(steps=10, early_exit=early_exit)(model, batch, Radius(0.9))
        spent[early_exit] = model.passes
    assert spent[True] < spent[False] / 2


def test_a_picture_has_the_same_result_alone_and_in_a_batch_on_the_real_network(tiny, tiny_pictures):
    images = tiny_pictures[0][:3]
    labels = tiny.logits(images).argmax(axis=1)
    attack = FAB(steps=3, restarts=2, targets=2)
    together = attack.search(tiny, Batch(images, labels, range(10, 13), seed=5), reach=32 / 255)
    alone = attack.search(tiny, Batch(images[2:], labels[2:], [12], seed=5), reach=32 / 255)
    np.testing.assert_allclose(together[2:], alone, atol=1e-3)
    changed = largest(together - images) > 0
    assert (guess(tiny)(together)[changed] != labels[changed]).all()


def test_a_flip_beyond_the_radius_is_projected_to_it():
    grey = np.full((1, 6, 6, 3), 0.6, np.float32)
    result = within(grey - 0.2, Batch(grey, np.ones(1, int)), 0.05, guess(Brightness()))
    np.testing.assert_allclose(result, grey - 0.05, atol=1e-6)


def test_pixels_outside_their_range_are_refused():
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        FAB()(Brightness(), Batch(np.full((1, 6, 6, 3), 128, np.float32), np.ones(1, int)), Radius(0.1))
