import numpy as np
import pytest

from buckler.errors import ModelError
from buckler.models import explanation
from buckler.models.classifier import Classifier
from buckler.models.explanation import HeadWeights, grad_cam
from buckler.models.features import head_of, last_maps
from buckler.models.networks.base import HeadShape
from buckler.models.networks.table import NETWORKS
from buckler.models.networks.tiny import TINY
from buckler.models.randomised import RandomisedInput

SIZE = 80  # gives maps of 5 by 5, of which the pooling drops the last row and column


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS)
def network(request):
    return request.param.build(SIZE, 3, head=HeadShape((16, 8)), seed=3)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).uniform(size=(SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def maps(network, pixels):
    """The picture's maps, as the classifier returns them."""
    return Classifier(network, batch_size=1).forward(pixels[None], maps=True).maps[0]


def by_tape(network, pixels, label):
    """Return Grad-CAM as the paper defines it, with TensorFlow's gradient."""
    from buckler.models.backend import keras, tf

    maps_and_logits = keras.Model(network.input, [last_maps(network), network.output])
    with tf.GradientTape() as tape:
        maps, logits = maps_and_logits(pixels[None], training=False)
        score = logits[0, label]
    weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
    relevance = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)).numpy()[0]
    return relevance / relevance.max()


def logits_of(maps, head):
    """Return what the head computes from ``maps``."""
    values = explanation.pool(maps, head.pooling).ravel()
    for kernel, bias in zip(head.kernels[:-1], head.biases[:-1], strict=True):
        values = np.maximum(values @ kernel + bias, 0)
    return values @ head.kernels[-1] + head.biases[-1]


@pytest.mark.parametrize("label", [0, 1, 2])
def test_heat_maps_equal_grad_cam_with_tensorflows_gradient(network, pixels, maps, label):
    expected = by_tape(network, pixels, label)
    assert expected.shape == {"vgg19": (5, 5), "tiny": (10, 10)}[network.name]
    found = grad_cam(maps, head_of(network), label)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found.dtype, found.max()) == (np.float32, 1)


def test_maps_and_head_give_the_networks_logits(network, pixels, maps):
    expected = np.asarray(network(pixels[None], training=False))[0]
    np.testing.assert_allclose(logits_of(maps, head_of(network)), expected, rtol=1e-3, atol=1e-5)


def test_maps_and_logits_of_a_randomised_network_come_from_the_same_draws(pixels):
    before = RandomisedInput(0.8, 8, seed=1, name="randomised")
    network = TINY.build(SIZE, 3, head=HeadShape((16, 8)), seed=3, before=before)
    passes = [Classifier(network, batch_size=2).forward(pixels[None], maps=True) for _ in range(2)]
    assert not np.allclose(passes[0].maps, passes[1].maps)
    for one in passes:
        np.testing.assert_allclose(logits_of(one.maps[0], head_of(network)), one.logits[0], rtol=1e-3, atol=1e-5)


def test_the_heat_map_shows_the_channel_that_supports_the_class():
    maps = np.zeros((2, 2, 2), np.float32)
    maps[0, 1, 0], maps[1, 0, 1] = 4, 2
    # No hidden layer: channel 0 supports class 0 and opposes class 1, channel 1 the reverse.
    head = HeadWeights((np.array([[1, -1], [-1, 1]], np.float32),), (np.zeros(2, np.float32),))
    np.testing.assert_array_equal(grad_cam(maps, head, 0), [[0, 1], [0, 0]])
    np.testing.assert_array_equal(grad_cam(maps, head, 1), [[0, 0], [1, 0]])


def test_without_support_for_a_class_the_heat_map_is_zero():
    head = HeadWeights((np.full((4, 1), -1, np.float32),), (np.zeros(1, np.float32),))
    np.testing.assert_array_equal(grad_cam(np.ones((4, 4, 1), np.float32), head, 0), np.zeros((4, 4)))
    np.testing.assert_array_equal(grad_cam(np.zeros((4, 4, 1), np.float32), head, 0), np.zeros((4, 4)))


def test_a_loaded_head_equals_the_saved_one(network, tmp_path):
    head = head_of(network)
    head.save(tmp_path)
    loaded = HeadWeights.load(tmp_path)
    inputs, pooling = {"vgg19": (2048, "max"), "tiny": (64, "mean")}[network.name]
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
