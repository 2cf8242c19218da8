from dataclasses import replace

import numpy as np
import pytest

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.errors import ModelError
from buckler.modality.base import Radius
from buckler.models import checkpoint, export
from buckler.models.backend import keras
from buckler.models.classifier import Classifier
from buckler.models.features import add_features, head_of, last_maps
from buckler.models.networks.base import HeadShape, flatten, join
from buckler.models.networks.vgg import VGG19
from buckler.models.networks.vgg_texture import VGG19_FUNDUS, VGG19_TEXTURE
from buckler.models.runtime import FILES, Runtime
from buckler.training.adversarial import Examples, harden
from buckler.training.loop import Schedule, train_head
from tests.forms import PICTURE, square
from tests.unit.training.test_adversarial import RECIPE

pytestmark = pytest.mark.slow

SIDE = 48  # the joined maps have three places a side
SHAPE = square(SIDE)
NETWORKS = pytest.mark.parametrize("network", [VGG19_TEXTURE, VGG19_FUNDUS], ids=lambda network: network.name)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).random((8, SIDE, SIDE, 3), np.float32)


@pytest.fixture(scope="module", params=[VGG19_TEXTURE, VGG19_FUNDUS], ids=lambda network: network.name)
def trained(request, pictures):
    """A network whose head was trained on the features of its base, and the truth of the pictures."""
    base = request.param.base(SHAPE, seed=3)
    features, truth = Classifier(flatten(base), batch_size=8).logits(pictures), np.arange(8) % 2
    head, _ = train_head(
        features[None],
        truth,
        (features, truth),
        classes=2,
        head=HeadShape((), 0.0, 1e-3, standardised=True),
        schedule=Schedule(epochs=40, batch_size=8, learning_rate=1e-2, seed=3),
    )
    return join(base, head), truth


@NETWORKS
def test_features_of_the_base_are_the_means_of_the_blocks(network, pictures):
    base = network.base(SHAPE, seed=1)
    blocks = [base.get_layer(tap.layer).output for tap in network.taps[:-1]]
    found, *maps = keras.Model(base.input, [base.output, *blocks])(pictures)
    means = [np.asarray(values).mean(axis=(1, 2)) for values in maps]
    np.testing.assert_allclose(found, np.concatenate(means, axis=1), rtol=1e-3, atol=1e-4)


@NETWORKS
def test_weights_are_those_of_a_file_of_vgg19(network, tmp_path):
    source = keras.applications.VGG19(weights=None, include_top=False, input_shape=(32, 32, 3))
    for name in ("base.weights.h5", "base.h5"):  # of Keras 3, and of Keras 2 as the downloadable one
        source.save_weights(tmp_path / name) if "weights" in name else source.save(tmp_path / name)
        base = network.base(SHAPE, weights=str(tmp_path / name), seed=0)
        for layer in base.layers:
            if layer.weights:
                np.testing.assert_array_equal(layer.get_weights()[0], source.get_layer(layer.name).get_weights()[0])


@NETWORKS
def test_weights_that_do_not_fit_are_rejected(network, tmp_path):
    (tmp_path / "base.h5").write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"base\.h5 is not a Keras file with the weights of VGG-19"):
        network.base(SHAPE, weights=str(tmp_path / "base.h5"), seed=0)


def test_the_retinas_network_has_no_layers_that_its_answer_does_not_need():
    names = [layer.name for layer in VGG19_FUNDUS.base(SHAPE, seed=1).layers]
    assert "block4_conv2" in names
    assert "block4_conv3" not in names
    assert VGG19_FUNDUS.base(SHAPE, seed=1).count_params() < VGG19.base(SHAPE, seed=1).count_params() / 3


def test_the_head_learns_and_is_saved_with_its_standardisation(trained, pictures, tmp_path):
    network, truth = trained
    expected = Classifier(network, batch_size=8).logits(pictures)
    np.testing.assert_array_equal(expected.argmax(axis=1), truth)
    info = checkpoint.ModelInfo(("a", "b"), ("b",), SHAPE, "sha256:0", architecture=network.name)
    checkpoint.save(network, info, tmp_path)
    loaded = Classifier(checkpoint.load_network(tmp_path), batch_size=8)
    np.testing.assert_array_equal(loaded.logits(pictures), expected)


def test_an_answer_is_the_sum_over_places_that_its_heat_map_shows(trained, pictures):
    network, _ = trained
    maps, logits = (
        np.asarray(each) for each in keras.Model(network.input, [last_maps(network), network.output])(pictures)
    )
    head = head_of(network)
    (kernel,), (bias,) = head.kernels, head.biases
    evidence = maps @ kernel
    np.testing.assert_allclose(evidence.mean(axis=(1, 2)) + bias, logits, rtol=1e-3, atol=1e-3)


def test_logits_and_features_come_from_one_pass_and_do_not_depend_on_the_batch(trained, pictures):
    network, _ = trained
    together = Classifier(network, batch_size=8).forward(pictures)
    alone = [Classifier(network, batch_size=1).forward(one[None]) for one in pictures[:3]]
    np.testing.assert_allclose(together.logits[:3], np.concatenate([each.logits for each in alone]), atol=1e-3)
    np.testing.assert_allclose(
        together.features[:3], np.concatenate([each.features for each in alone]), rtol=1e-3, atol=1e-3
    )
    means = together.features[:, -2 * last_maps(network).shape[-1] :]
    assert means.shape[1] == 2 * last_maps(network).shape[-1] < add_features(network).outputs[1].shape[1]


def test_attacks_see_through_the_normalisation(trained, pictures):
    network, truth = trained
    classifier = Classifier(network, batch_size=8)
    gradient, _ = classifier.loss_gradient(pictures, truth)
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).reshape(8, -1).max(axis=1) > 0).all()
    attacked = PGD(steps=5)(classifier, Batch(pictures, truth, seed=0), Radius(8 / 255))
    assert (classifier.logits(attacked).argmax(axis=1) == truth).mean() < 0.5


def test_exported_networks_answer_as_the_reference(trained, pictures, tmp_path):
    network, _ = trained
    reference = Classifier(network, batch_size=8).forward(pictures)
    export.write(network, pictures, tmp_path)
    exact = Runtime(tmp_path / FILES["float32"], "float32").forward(pictures)
    np.testing.assert_allclose(exact.logits, reference.logits, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(exact.features, reference.features, rtol=1e-2, atol=1e-2)
    small = Runtime(tmp_path / FILES["int8"], "int8").forward(pictures)
    assert np.corrcoef(small.features.ravel(), reference.features.ravel())[0, 1] > 0.99


def test_a_picture_moved_by_one_level_moves_the_eight_bit_features(trained, pictures, tmp_path):
    export.write(trained[0], pictures, tmp_path)
    runtime = Runtime(tmp_path / FILES["int8"], "int8")
    moved = pictures[:1].copy()
    moved[0, 20:28, 20:28] += np.where(moved[0, 20:28, 20:28] < 0.5, 1 / 255, -1 / 255)
    assert not np.array_equal(runtime.forward(pictures[:1]).features, runtime.forward(moved).features)


def test_the_network_can_be_hardened(trained, pictures):
    network, truth = trained
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    recipe = replace(RECIPE, epochs=1, batch_size=8, unfrozen_blocks=1)
    before = copy.get_layer("standardisation").get_weights()
    history = harden(
        copy,
        Examples(pictures, truth),
        Examples(pictures, truth),
        recipe,
        precision="float32",
        seed=1,
        vary=PICTURE.varied,
    )
    assert np.isfinite(history[0]["loss"])
    assert np.any(copy.get_layer("logits").get_weights()[0] != network.get_layer("logits").get_weights()[0])
    for one, other in zip(before, copy.get_layer("standardisation").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pictures_whose_contrast_is_the_same_can_be_exported(tmp_path):
    """Eight bits over the range of a number that is the same in all of them would be an error of NNCF."""
    alike = np.random.default_rng(0).random((8, 64, 64, 3), np.float32)
    network = VGG19_FUNDUS.build(square(64), 2, head=HeadShape(()), seed=1)
    export.write(network, alike, tmp_path)
    exact, small = (Runtime(tmp_path / FILES[name], name).forward(alike) for name in ("float32", "int8"))
    assert np.corrcoef(exact.features.ravel(), small.features.ravel())[0, 1] > 0.99
