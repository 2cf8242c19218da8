import numpy as np
import pytest

from buckler.errors import ModelError
from buckler.models import explanation
from buckler.models.classifier import Classifier
from buckler.models.explanation import FLAT, HeadWeights, relevance_of
from buckler.models.features import head_of, last_maps
from buckler.models.networks.base import HeadShape
from buckler.models.networks.table import NETWORKS
from buckler.models.networks.tiny import TINY
from buckler.models.randomised import RandomisedInput
from tests.forms import square

SIZE = 80  # gives maps of 5 by 5 of VGG-19, of which the pooling drops the last row and column
EXPECTED = {  # places of the maps, features of the base, pooling
    "vgg19": ((5, 5), 2048, "max"),
    "vgg19_texture": ((5, 5), 1408, "mean"),
    "vgg19_fundus": ((5, 5), 896, "mean"),
    "small": ((10, 10), 64, "mean"),
    "tiny": ((10, 10), 64, "mean"),
    "conv1d": ((20,), 48, "mean"),
}


def shape_of(network):
    return (*[SIZE] * (network.axes - 1), 3)


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS)
def network(request):
    standardised = request.param.standardised
    head = HeadShape((16, 8), standardised=standardised)
    network = request.param.build(shape_of(request.param), 3, head=head, seed=3)
    if standardised:
        scaled = network.get_layer("standardisation")
        scaled.adapt(np.random.default_rng(2).normal(1, 2, (9, scaled.output.shape[-1])))
    return network


@pytest.fixture(scope="module")
def pixels(network):
    return np.random.default_rng(1).uniform(size=network.input_shape[1:]).astype(np.float32)


@pytest.fixture(scope="module")
def maps(network, pixels):
    """The picture's maps, as the classifier returns them."""
    return Classifier(network, batch_size=1).forward(pixels[None], maps=True).maps[0]


def by_tape(network, pixels, label):
    """Return the map with TensorFlow's gradient of the margin."""
    from buckler.models.backend import keras, tf

    maps_and_logits = keras.Model(network.input, [last_maps(network), network.output])
    with tf.GradientTape() as tape:
        maps, logits = maps_and_logits(pixels[None], training=False)
        margin = logits[0, label] - tf.reduce_max(tf.boolean_mask(logits[0], np.arange(logits.shape[1]) != label))
    places = tuple(range(len(maps.shape) - 2))
    weights = tf.reduce_sum(tape.gradient(margin, maps), axis=[1 + place for place in places]).numpy()[0]
    maps = maps.numpy()[0]
    change = np.abs((maps - np.median(maps, axis=places)) @ weights)
    return change / change.max()


def logits_of(maps, head):
    """Return what the head computes from ``maps``."""
    values = explanation.pool(maps, head.pooling).ravel()
    for kernel, bias in zip(head.kernels[:-1], head.biases[:-1], strict=True):
        values = np.maximum(values @ kernel + bias, 0)
    return values @ head.kernels[-1] + head.biases[-1]


@pytest.mark.parametrize("label", [0, 1, 2])
def test_heat_maps_equal_those_with_tensorflows_gradient(network, pixels, maps, label):
    expected = by_tape(network, pixels, label)
    places, _, _ = EXPECTED[network.name]
    assert expected.shape == places
    found = relevance_of(maps, head_of(network), label)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found.dtype, found.max()) == (np.float32, 1)


def test_maps_and_head_give_the_networks_logits(network, pixels, maps):
    expected = np.asarray(network(pixels[None], training=False))[0]
    np.testing.assert_allclose(logits_of(maps, head_of(network)), expected, rtol=1e-3, atol=1e-5)


def test_maps_and_logits_of_a_randomised_network_come_from_the_same_draws():
    pixels = np.random.default_rng(1).uniform(size=square(SIZE)).astype(np.float32)
    before = RandomisedInput(0.8, 8, seed=1, name="randomised")
    network = TINY.build(square(SIZE), 3, head=HeadShape((16, 8)), seed=3, before=before)
    passes = [Classifier(network, batch_size=2).forward(pixels[None], maps=True) for _ in range(2)]
    assert not np.allclose(passes[0].maps, passes[1].maps)
    for one in passes:
        np.testing.assert_allclose(logits_of(one.maps[0], head_of(network)), one.logits[0], rtol=1e-3, atol=1e-5)


def evidence():
    """Return maps of nine places, of which four differ from the others, and a head without a hidden layer.

    Of channels 0 to 2, each supports its class; the last supports all of them alike.
    """
    maps = np.full((3, 3, 4), 5, np.float32)
    for place, channel, value in (((0, 0), 0, 9), ((0, 2), 1, 3), ((2, 0), 2, 8), ((2, 2), 3, 99)):
        maps[(*place, channel)] = value
    kernel = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32)
    return maps, kernel


def test_places_that_stand_out_for_or_against_the_label_are_hot_and_skin_is_not():
    maps, kernel = evidence()
    # Class 2 is the strongest other one of class 0; channels of class 1 and of all classes decide nothing.
    head = HeadWeights((kernel,), (np.array([0, -5, 0], np.float32),), "mean")
    np.testing.assert_array_equal(relevance_of(maps, head, 0), [[1, 0, 0], [0, 0, 0], [0.75, 0, 0]])
    np.testing.assert_array_equal(relevance_of(maps, head, 2), relevance_of(maps, head, 0))


def test_a_label_is_compared_with_the_strongest_other_label():
    maps, kernel = evidence()
    head = HeadWeights((kernel,), (np.array([0, 5, 0], np.float32),), "mean")
    np.testing.assert_array_equal(relevance_of(maps, head, 0), [[1, 0, 0.5], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("change", [0, FLAT / 2])
def test_the_map_is_flat_if_no_place_stands_out(change):
    maps = np.full((4, 4, 1), 7, np.float32)
    maps[1, 2] += change
    head = HeadWeights((np.array([[1, 0]], np.float32),), (np.zeros(2, np.float32),), "mean")
    assert not relevance_of(maps, head, 0).any()
    maps[1, 2] += 2 * FLAT
    assert relevance_of(maps, head, 0).any()


def test_a_loaded_head_equals_the_saved_one(network, tmp_path):
    head = head_of(network)
    head.save(tmp_path)
    loaded = HeadWeights.load(tmp_path)
    _, inputs, pooling = EXPECTED[network.name]
    assert [kernel.shape for kernel in loaded.kernels] == [(inputs, 16), (16, 8), (8, 3)]
    assert loaded.pooling == pooling
    for one, other in zip(head.kernels + head.biases, loaded.kernels + loaded.biases, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("content", [None, b"", b"PK not an archive"])
def test_a_file_without_head_weights_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / explanation.HEAD_FILE).write_bytes(content)
    with pytest.raises(ModelError, match=r"head\.npz contains no valid weights of a head"):
        HeadWeights.load(tmp_path)


def test_a_pickled_head_is_rejected(tmp_path):
    np.savez(tmp_path / explanation.HEAD_FILE, kernel_0=np.array([{}], object), bias_0=np.zeros(1), allow_pickle=True)
    with pytest.raises(ModelError, match="contains no valid weights"):
        HeadWeights.load(tmp_path)
