"""The stages `features` and `train` with each defence, on the tiny network and on a variant with a frozen base.

The test of seven classes takes VGG-19 through all stages.
"""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from buckler.compute.machine import crafting_precision
from buckler.data import pictures
from buckler.errors import ModelError
from buckler.modality.picture.restoration import table
from buckler.models import checkpoint, denoiser
from buckler.models.backend import keras
from buckler.models.classifier import Classifier
from buckler.models.networks.base import flatten
from buckler.models.networks.table import NETWORKS
from buckler.models.networks.tiny import TINY
from buckler.models.randomised import Randomisation
from buckler.trust.digests import file_digest
from pipelines import features, train, weights
from pipelines.settings import DataParams, TrainParams
from tests import projects
from tests.forms import pictures_of, square
from tests.keras_files import residual, saved
from tests.unit.training.test_adversarial import RECIPE

pytestmark = pytest.mark.slow

SIZE, COUNT = 32, 24
DATA = DataParams("directory", "unused", "picture", 0, SIZE, ("malignant",), 0.05, 7, {}, False, "lesion_id", "none")
TRAIN = TrainParams("tiny", (), "none", 0.0, (8,), 2, 8, 1e-3, 0.0, 7, "none")


@pytest.fixture
def project(tmp_path, monkeypatch):
    projects.write_splits(tmp_path, SIZE, COUNT, np.random.default_rng(7))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def undefended(module_tmp_path):
    """The network that is trained without a defence on the pictures of ``project``, and its description."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(module_tmp_path)
        projects.write_splits(module_tmp_path, SIZE, COUNT, np.random.default_rng(7))
        return trained("none")


def trained(defence, network="tiny", **changes):
    cfg = replace(TRAIN, defence=defence, network=network)
    if not weights.WEIGHTS.exists():
        weights.run(cfg, DATA)
    recipe = replace(RECIPE, **{"epochs": 2, "batch_size": 8, "learning_rate": 1e-5} | changes)
    if not features.OUT.exists():
        features.run(features.FeaturesParams(1, 15, 8, 7), DATA, cfg)
    train.run(cfg, DATA, recipe, Randomisation(0.8, 4))
    return checkpoint.load_network(Path("models/classifier")), checkpoint.load_info(Path("models/classifier"))


def forward(network):
    test = pictures.load(Path("data/splits/test.csv"), projects.LABELS, pictures_of(SIZE))
    return Classifier(network, crafting_precision(), batch_size=8).forward(test.images)


def test_hardening_changes_the_base(undefended, project):
    plain, info = undefended
    assert (info.defence, info.architecture, info.data_source) == ("none", "tiny", "directory")
    hardened, info = trained("adversarial", learning_rate=1e-3, unfrozen_blocks=4)
    assert info.defence == "adversarial"
    assert not Path(".buckler/training/state.npz").exists()
    assert not np.allclose(forward(plain).features, forward(hardened).features, rtol=0.02, atol=0.02)
    with Path("reports/training/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(0 <= float(row["val_robust_accuracy"]) <= 1 for row in rows)


@pytest.mark.parametrize("network", ["tiny", "frozen"])
def test_a_network_learns_from_the_weights_that_the_run_started_with_and_names_them(project, monkeypatch, network):
    monkeypatch.setitem(NETWORKS, "frozen", replace(TINY, name="frozen", frozen_base=True))
    NETWORKS[network].base(square(SIZE), seed=1).save_weights("base.weights.h5")
    monkeypatch.setattr(f"{__name__}.TRAIN", replace(TRAIN, weights="base.weights.h5", learning_rate=0.0))
    model, info = trained("none", network)
    assert info.initial_weights == file_digest(Path("base.weights.h5"))
    expected = NETWORKS[network].base(square(SIZE), seed=1)
    for layer in expected.layers:
        for ours, theirs in zip(model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    NETWORKS[network].base(square(SIZE), seed=2).save_weights("base.weights.h5")
    with pytest.raises(ModelError, match=r"expected base\.weights\.h5 with sha256:"):
        trained("none", network)


def test_features_and_training_see_restored_pictures_and_the_model_names_the_step(project, monkeypatch):
    monkeypatch.setitem(NETWORKS, "frozen", replace(TINY, name="frozen", frozen_base=True))
    denoiser.Denoiser(denoiser.build(seed=1)).save(Path("denoiser.npz"))
    monkeypatch.setattr(f"{__name__}.DATA", replace(DATA, restore="file:denoiser.npz"))
    _, info = trained("none", "frozen")
    assert info.restore == "cnn"
    for place in ("classifier", "surrogate"):
        assert file_digest(Path(f"models/{place}/denoiser.npz")) == file_digest(Path("denoiser.npz"))
    seen = pictures.load(Path("data/splits/calibration.csv"), projects.LABELS, pictures_of(SIZE))
    base = flatten(NETWORKS["frozen"].base(square(SIZE), seed=TRAIN.seed))
    restored = denoiser.load(Path("denoiser.npz"))(seen.images)
    expected = Classifier(base, crafting_precision(), batch_size=8).logits(restored)
    assert np.abs(restored - seen.images).max() > 0.01
    np.testing.assert_allclose(np.load(features.OUT / "validation.npy"), expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("step", ["clahe", "none"])
def test_a_network_that_learns_on_pixels_sees_restored_pictures(project, monkeypatch, step):
    shown = []
    monkeypatch.setattr(f"{__name__}.DATA", replace(DATA, restore=step))
    monkeypatch.setattr(
        train,
        "train_network",
        lambda _, seen, validation, **__: shown.extend((seen[0], validation[0])) or [{"epoch": 1}],
    )
    trained("none")
    for name, images in zip(("train", "calibration"), shown, strict=False):
        given = pictures.load(Path(f"data/splits/{name}.csv"), projects.LABELS, pictures_of(SIZE)).images
        np.testing.assert_array_equal(images, table.find(step)(given))


def test_the_surrogate_of_a_frozen_base_has_that_base_and_its_own_head_whatever_the_defence(project, monkeypatch):
    monkeypatch.setitem(NETWORKS, "frozen", replace(TINY, name="frozen", frozen_base=True))
    plain, surrogates = trained("none", "frozen")[0], []
    surrogates.append(checkpoint.load_network(Path("models/surrogate")))
    hardened = trained("adversarial", "frozen", unfrozen_blocks=4)[0]
    assert checkpoint.load_info(Path("models/surrogate")).defence == "none"
    surrogates.append(checkpoint.load_network(Path("models/surrogate")))
    for one, other in zip(*(network.get_weights() for network in surrogates), strict=True):
        np.testing.assert_array_equal(one, other)
    base, surrogate, changed = (network.get_layer("block4_conv").kernel for network in (plain, surrogates[0], hardened))
    np.testing.assert_array_equal(base, surrogate)
    assert not np.array_equal(base, changed)
    assert not np.array_equal(plain.get_layer("logits").kernel, surrogates[0].get_layer("logits").kernel)


def test_a_randomised_network_is_the_undefended_one_behind_a_random_layer(undefended, project):
    network, info = trained("randomised")
    assert info.defence == "randomised"
    assert network.get_layer("randomised").get_config()["smallest"] == 0.8
    classifier, images = Classifier(network, batch_size=8), np.full((8, SIZE, SIZE, 3), 0.5, np.float32)
    assert not np.array_equal(classifier.logits(images), classifier.logits(images))
    # The next stage is another process, which has only its own imports.
    load = "from pathlib import Path; from buckler.models import checkpoint; checkpoint.load_network(Path('{}'))"
    subprocess.run([sys.executable, "-c", load.format("models/classifier")], check=True)
    plain, _ = undefended
    for ours, theirs in zip(network.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def theirs(project):
    network = residual(side=SIZE)
    saved(network, project / "theirs.keras")
    return network


def test_a_network_from_a_file_is_not_trained_and_its_surrogate_is_small(project, theirs, capsys):
    network, info = trained("none", "file:theirs.keras")
    assert "theirs.keras: taps: sum1 32x32x8, sum2 16x16x16, last 8x8x32\n" in capsys.readouterr().out
    assert (info.architecture, info.initial_weights, info.heat_maps) == (
        "file",
        file_digest(Path("theirs.keras")),
        True,
    )
    images = pictures.load(Path("data/splits/test.csv"), projects.LABELS, pictures_of(SIZE)).images
    expected = theirs(images, training=False)
    np.testing.assert_allclose(keras.ops.softmax(network(images, training=False)), expected, atol=1e-5)
    surrogate = checkpoint.load_info(Path("models/surrogate"))
    assert (surrogate.architecture, surrogate.initial_weights) == ("small", "none")
    with Path("reports/training/history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["epoch"] == "0"
    assert float(row["val_accuracy"]) in np.arange(COUNT + 1) / COUNT


def test_a_network_from_a_file_is_hardened_from_its_last_blocks_and_keeps_its_moving_averages(project, theirs):
    hardened, info = trained("adversarial", "file:theirs.keras", learning_rate=1e-3, unfrozen_blocks=1)
    assert info.defence == "adversarial"
    base = theirs.get_layer("base")

    def moved(name):
        before = (base if name != "hidden" else theirs).get_layer(name).get_weights()
        now = hardened.get_layer(name).get_weights()
        return any(not np.array_equal(*pair) for pair in zip(before, now, strict=True))

    names = ("conv1", "side1", "conv2", "normalised2", "last", "hidden")
    assert {name: moved(name) for name in names} == {name: name in ("last", "hidden") for name in names}
    everything = trained("adversarial", "file:theirs.keras", learning_rate=1e-3, unfrozen_blocks=3)[0]
    for name in ("normalised1", "normalised2"):
        for ours, before in zip(
            everything.get_layer(name).get_weights(), base.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, before)
    assert not np.array_equal(everything.get_layer("conv1").kernel, base.get_layer("conv1").kernel)


def test_a_randomised_network_from_a_file_is_it_behind_a_random_layer(project, theirs):
    network, info = trained("randomised", "file:theirs.keras")
    assert (info.architecture, network.layers[1].name) == ("file", "randomised")
    classifier, images = Classifier(network, batch_size=8), np.full((8, SIZE, SIZE, 3), 0.5, np.float32)
    assert not np.array_equal(classifier.logits(images), classifier.logits(images))


def test_a_network_for_other_labels_is_refused(project):
    saved(residual(3, SIZE), project / "theirs.keras")
    with pytest.raises(ModelError, match=r"expected 2 outputs, in the alphabetical order of the labels, got .* of 3"):
        trained("none", "file:theirs.keras")
