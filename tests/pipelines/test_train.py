"""The stages `features` and `train` on VGG-19 at its smallest, with each defence."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from buckler.compute.machine import crafting_precision
from buckler.data import pictures
from buckler.models import checkpoint
from buckler.models.classifier import Classifier
from buckler.models.randomised import Randomisation
from pipelines import features, train
from pipelines.settings import DataParams, TrainParams
from tests import projects
from tests.unit.training.test_adversarial import RECIPE

pytestmark = pytest.mark.slow

SIZE, COUNT = 32, 24
DATA = DataParams("directory", "unused", 0, SIZE, ("malignant",), 7)
TRAIN = TrainParams("vgg19", "none", 0.0, (8,), 2, 8, 1e-3, 7, "none")


@pytest.fixture
def project(tmp_path, monkeypatch):
    projects.write_splits(tmp_path, SIZE, COUNT, np.random.default_rng(7))
    monkeypatch.chdir(tmp_path)
    features.run(features.FeaturesParams(1, 15, 8, 7), DATA, TRAIN)
    return tmp_path


def trained(defence, **changes):
    recipe = replace(RECIPE, **{"epochs": 2, "batch_size": 8, "learning_rate": 1e-5} | changes)
    train.run(replace(TRAIN, defence=defence), DATA, recipe, Randomisation(0.8, 4))
    return checkpoint.load_network(Path("models/classifier")), checkpoint.load_info(Path("models/classifier"))


def forward(network):
    test = pictures.load(Path("data/splits/test.csv"), projects.LABELS, size=SIZE)
    return Classifier(network, crafting_precision(), batch_size=8).forward(test.images)


def test_hardening_changes_the_base(project):
    plain, info = trained("none")
    assert info.defence == "none"
    hardened, info = trained("adversarial")
    assert info.defence == "adversarial"
    assert not Path(".buckler/training/state.npz").exists()
    assert not np.allclose(forward(plain).features, forward(hardened).features, rtol=0.02, atol=0.02)
    with Path("reports/training/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(0 <= float(row["val_robust_accuracy"]) <= 1 for row in rows)


def test_the_surrogate_has_the_undefended_base_and_a_head_of_its_own_whatever_the_defence(project):
    surrogates = []
    for defence in ("none", "adversarial"):
        trained(defence)
        assert checkpoint.load_info(Path("models/surrogate")).defence == "none"
        surrogates.append(checkpoint.load_network(Path("models/surrogate")))
    for one, other in zip(*(network.get_weights() for network in surrogates), strict=True):
        np.testing.assert_array_equal(one, other)
    plain, surrogate = trained("none")[0], surrogates[0]
    base, own = (network.get_layer("block5_conv4").kernel for network in (plain, surrogate))
    np.testing.assert_array_equal(base, own)
    assert not np.array_equal(plain.get_layer("logits").kernel, surrogate.get_layer("logits").kernel)


def test_a_randomised_network_is_the_undefended_one_behind_a_random_layer(project):
    network, info = trained("randomised")
    assert info.defence == "randomised"
    assert network.get_layer("randomised").get_config()["smallest"] == 0.8
    classifier, images = Classifier(network, batch_size=8), np.full((8, SIZE, SIZE, 3), 0.5, np.float32)
    assert not np.array_equal(classifier.logits(images), classifier.logits(images))
    # Another process, as the next stage is, knows only what it imports itself.
    load = "from pathlib import Path; from buckler.models import checkpoint; checkpoint.load_network(Path('{}'))"
    subprocess.run([sys.executable, "-c", load.format("models/classifier")], check=True)
    plain, _ = trained("none")
    for ours, theirs in zip(network.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
