import numpy as np
import pytest

from buckler.attacks.ball import lengths
from buckler.attacks.base import Batch
from buckler.attacks.minimal import LBFGS, CarliniWagner, DeepFool
from buckler.attacks.table import build
from buckler.errors import InputRangeError
from buckler.modality.base import Radius
from tests.unit.toy import Brightness, Linear

SEARCHES = [DeepFool, CarliniWagner, LBFGS]


@pytest.fixture(params=[2, 7])
def model_and_pictures(request):
    model = Linear(request.param)
    images = np.random.default_rng(5).uniform(0.3, 0.7, (9, 6, 6, 3)).astype(np.float32)
    return model, images, model.logits(images).argmax(axis=1)


@pytest.mark.parametrize(("attack", "slack"), [(DeepFool, 1.03), (CarliniWagner, 1.05), (LBFGS, 1.25)])
def test_the_boundary_is_found_at_its_distance(attack, slack, model_and_pictures):
    model, images, labels = model_and_pictures
    result = attack().search(model, Batch(images, labels))
    assert (model.logits(result).argmax(axis=1) != labels).all()
    share = lengths(result - images) / model.distances(images, labels)
    assert share.min() >= 0.999
    assert np.median(share) <= slack


@pytest.mark.parametrize("attack", SEARCHES)
def test_misclassified_pictures_do_not_change(attack, model_and_pictures):
    model, images, labels = model_and_pictures
    labels = labels.copy()
    labels[2] = (labels[2] + 1) % len(model.weights)
    result = attack().search(model, Batch(images, labels))
    np.testing.assert_array_equal(result[2], images[2])
    assert np.any(result[3] != images[3])


@pytest.mark.parametrize("attack", SEARCHES)
def test_a_pictures_search_does_not_depend_on_its_batch(attack, model_and_pictures):
    model, images, labels = model_and_pictures
    together = attack().search(model, Batch(images, labels))
    np.testing.assert_allclose(attack().search(model, Batch(images[4:5], labels[4:5])), together[4:5], atol=1e-4)


@pytest.mark.parametrize("attack", SEARCHES)
def test_a_model_without_gradients_returns_the_pictures(attack):
    images = np.full((2, 6, 6, 3), 0.5, np.float32)
    result = attack().search(Brightness(slope=0.0), Batch(images, np.zeros(2, int)))
    np.testing.assert_allclose(result, images, atol=1e-6)


@pytest.mark.parametrize("attack", SEARCHES)
def test_pictures_of_black_and_white_stay_in_their_range(attack):
    images = np.random.default_rng(3).integers(0, 2, (3, 6, 6, 3)).astype(np.float32)
    model = Linear(3)
    labels = model.logits(images).argmax(axis=1)
    result = attack().search(model, Batch(images, labels))
    assert result.min() >= 0
    assert result.max() <= 1
    # In tanh space such pixels have next to no gradient.
    assert attack is CarliniWagner or (model.logits(result).argmax(axis=1) != labels).all()


def test_the_target_class_is_reached(model_and_pictures):
    model, images, labels = model_and_pictures
    result = LBFGS(target=1).search(model, Batch(images, labels))
    assert (model.logits(result).argmax(axis=1) == 1).all()
    np.testing.assert_array_equal(result[labels == 1], images[labels == 1])


def test_a_target_class_that_the_model_lacks_is_refused(model_and_pictures):
    model, images, labels = model_and_pictures
    with pytest.raises(ValueError, match="expected a target class"):
        LBFGS(target=7).search(model, Batch(images, labels))


def test_confidence_requires_a_margin():
    model = Linear(2)
    images = np.random.default_rng(5).uniform(0.4, 0.6, (4, 6, 6, 3)).astype(np.float32)
    labels = model.logits(images).argmax(axis=1)
    logits = model.logits(CarliniWagner(confidence=2.0).search(model, Batch(images, labels)))
    assert (np.abs(logits[:, 0] - logits[:, 1]) >= 2.0).all()
    assert (logits.argmax(axis=1) != labels).all()


@pytest.mark.parametrize("name", ["deepfool", "carlini_wagner", "lbfgs"])
def test_one_search_serves_every_radius(name, model_and_pictures):
    model, images, labels = model_and_pictures
    batch, attack = Batch(images, labels), build(name, steps=60)
    found = attack(model, batch, Radius(100.0))
    distance = lengths(found - images)
    alone = model.passes
    radii = [Radius(0.0), Radius(float(np.median(distance))), Radius(100.0)]
    model.passes = 0
    for radius, result in zip(radii, attack.each(model, batch, radii), strict=True):
        assert (lengths(result - images) <= radius.value + 1e-6).all()
        within = distance <= radius.value
        np.testing.assert_allclose(result[within], found[within], atol=1e-6)
        flipped = model.logits(result).argmax(axis=1) != labels
        np.testing.assert_array_equal(flipped, within)
    assert model.passes == alone


@pytest.mark.parametrize("attack", SEARCHES)
def test_pixels_outside_their_range_are_refused(attack):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        attack()(Brightness(), Batch(np.full((1, 6, 6, 3), 2, np.float32), np.ones(1, int)), Radius(1.0))


def test_an_error_of_the_model_ends_the_search():
    class Broken(Linear):
        def loss_gradient(self, images, labels, loss="cross_entropy"):
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        LBFGS().search(Broken(2), Batch(np.full((3, 6, 6, 3), 0.5, np.float32), np.zeros(3, int)))
