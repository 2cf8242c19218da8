from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from buckler.attacks.adaptive import Expectation
from buckler.compute.machine import crafting_precision
from buckler.evaluation import crafter_and_scorer
from buckler.modality.picture.restoration import table
from buckler.models import checkpoint, denoiser, export, runtime
from buckler.models.denoiser import Denoiser
from buckler.models.info import ModelInfo
from tests.forms import square


def info(defence="none"):
    return ModelInfo(("benign", "malignant"), (), square(32), "sha256:0", defence)


def test_an_exported_network_is_scored_in_its_serving_runtime_and_attacked_through_its_reference(
    tiny_network, tiny_pictures, exported
):
    images, labels = tiny_pictures
    crafter, scorer = crafter_and_scorer.choose(
        tiny_network, info(), model=Path(), batch_size=4, seed=0, runtime=exported
    )
    assert (crafter.precision, scorer.precision) == (crafting_precision(), runtime.native()[0])
    assert crafter.loss_gradient(images, labels)[0].any()
    np.testing.assert_array_equal(scorer.logits(images), runtime.Runtime.load(exported).logits(images))


@pytest.mark.parametrize("place", [None, "nothing here"])
def test_without_an_exported_network_the_reference_scores_in_float32(tiny_network, tiny_classifier, tmp_path, place):
    directory = tmp_path / place if place else None
    _, scorer = crafter_and_scorer.choose(tiny_network, info(), model=Path(), batch_size=4, seed=0, runtime=directory)
    grey = np.full((1, 32, 32, 3), 0.5, np.float32)
    np.testing.assert_allclose(scorer.logits(grey), tiny_classifier.logits(grey), atol=1e-6)
    assert scorer.precision == "float32"


@pytest.mark.parametrize("restore", ["none", "tv"])
def test_a_randomised_network_is_crafted_on_and_scored_by_its_expectation(tiny_network, restore):
    about = replace(info("randomised"), restore=restore)
    crafter, scorer = crafter_and_scorer.choose(tiny_network, about, model=Path(), batch_size=4, seed=0)
    assert isinstance(crafter, Expectation)
    assert isinstance(scorer, Expectation)


def test_a_restoration_step_is_part_of_both(tiny_network, tiny_classifier, tiny_pictures):
    (images, labels), step = tiny_pictures, table.find("tv")
    about = replace(info(), restore="tv")
    crafter, scorer = crafter_and_scorer.choose(tiny_network, about, model=Path(), batch_size=4, seed=0)
    expected = tiny_classifier.logits(step(images))
    assert np.abs(expected - tiny_classifier.logits(images)).max() > 1e-3
    np.testing.assert_allclose(scorer.logits(images), expected, atol=1e-5)
    np.testing.assert_allclose(scorer.forward(images).logits, expected, atol=1e-5)
    gradient, logits = crafter.loss_gradient(images, labels)
    assert gradient.any()
    assert logits.shape == expected.shape


def test_the_denoiser_scores_as_it_is_exported_and_gives_the_attacker_its_true_gradient(
    tiny_network, tiny_pictures, exported, tmp_path
):
    images, labels = tiny_pictures
    step, about = Denoiser(denoiser.build(seed=3)), replace(info(), restore="cnn", architecture="tiny")
    checkpoint.save(tiny_network, about, tmp_path, step)
    for file in exported.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    export.write_denoiser(step, about.shape, tmp_path)
    crafter, scorer = crafter_and_scorer.choose(
        tiny_network, about, model=tmp_path, batch_size=4, seed=0, runtime=tmp_path
    )
    plain, served = crafter_and_scorer.choose(
        tiny_network, info(), model=tmp_path, batch_size=4, seed=0, runtime=tmp_path
    )
    np.testing.assert_allclose(scorer.logits(images), served.logits(step(images)), atol=1e-4)
    gradient, _ = plain.loss_gradient(step(images), labels)
    np.testing.assert_allclose(crafter.loss_gradient(images, labels)[0], step.pull_back(images, gradient), atol=1e-5)
