import numpy as np
import pytest

from buckler.attacks.adaptive import Expectation
from buckler.compute.machine import crafting_precision
from buckler.evaluation import crafter_and_scorer
from buckler.models import runtime
from buckler.models.info import ModelInfo
from tests.forms import square


def info(defence="none"):
    return ModelInfo(("benign", "malignant"), (), square(32), "sha256:0", defence)


def test_an_exported_network_is_scored_in_its_serving_runtime_and_attacked_through_its_reference(
    tiny_network, tiny_pictures, exported
):
    images, labels = tiny_pictures
    crafter, scorer = crafter_and_scorer.choose(tiny_network, info(), batch_size=4, seed=0, runtime=exported)
    assert (crafter.precision, scorer.precision) == (crafting_precision(), runtime.native()[0])
    assert crafter.loss_gradient(images, labels)[0].any()
    np.testing.assert_array_equal(scorer.logits(images), runtime.Runtime.load(exported).logits(images))


@pytest.mark.parametrize("place", [None, "nothing here"])
def test_without_an_exported_network_the_reference_scores_in_float32(tiny_network, tiny_classifier, tmp_path, place):
    directory = tmp_path / place if place else None
    _, scorer = crafter_and_scorer.choose(tiny_network, info(), batch_size=4, seed=0, runtime=directory)
    grey = np.full((1, 32, 32, 3), 0.5, np.float32)
    np.testing.assert_allclose(scorer.logits(grey), tiny_classifier.logits(grey), atol=1e-6)
    assert scorer.precision == "float32"


def test_a_randomised_network_is_crafted_on_and_scored_by_its_expectation(tiny_network):
    crafter, scorer = crafter_and_scorer.choose(tiny_network, info("randomised"), batch_size=4, seed=0)
    assert isinstance(crafter, Expectation)
    assert isinstance(scorer, Expectation)
