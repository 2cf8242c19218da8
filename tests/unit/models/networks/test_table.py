import numpy as np
import pytest

from buckler.errors import ModelError
from buckler.models.features import add_features
from buckler.models.networks import table
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from tests.forms import square

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("network", table.NETWORKS.values(), ids=table.NETWORKS)
def test_every_architecture_has_the_channels_that_it_declares(network):
    model = network.build((network.min_size,) * (network.axes - 1) + (3,), 3, head=HeadShape((8,)), seed=1)
    assert model.name == network.name
    for tap in network.taps:
        assert model.get_layer(tap.layer).output.shape[-1] == tap.channels
    logits, features = add_features(model).outputs
    assert (logits.shape[-1], features.shape[-1]) == (3, 2 * sum(tap.channels for tap in network.taps))
    columns = (network.trace_columns, network.probe_columns, network.cloud_columns)
    assert all(places.min() >= 0 and places.max() < features.shape[-1] for places in columns)


def test_columns_of_taps_are_their_means_and_standard_deviations():
    np.testing.assert_array_equal(TINY.columns([0]), np.arange(32))
    np.testing.assert_array_equal(TINY.columns([2, 1]), [*range(96, 192), *range(32, 96)])


def test_an_error_names_an_unknown_architecture_and_the_known_ones():
    with pytest.raises(ModelError, match=r"expected one of the networks vgg19, .*, small, tiny, conv1d, got resnet"):
        table.find("resnet")


def test_a_network_from_a_file_cannot_be_built_without_it():
    table.check("file")
    known = r"expected a network that can be built, vgg19, .*, small, tiny, conv1d, got file"
    with pytest.raises(ModelError, match=known):
        table.find("file")


def test_downloadable_weights_of_another_architecture_are_rejected():
    with pytest.raises(ModelError, match=r"train\.weights: expected none or the path of a Keras weights file, got ima"):
        TINY.base(square(32), weights="imagenet", seed=1)
