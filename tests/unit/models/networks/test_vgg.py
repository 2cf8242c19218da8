import numpy as np
import pytest

from buckler.errors import ModelError
from buckler.models.backend import keras
from buckler.models.classifier import Classifier
from buckler.models.networks.base import HeadShape, flatten
from buckler.models.networks.vgg import VGG19, ImageNetNormalisation
from buckler.training.adversarial import unfreeze
from tests.forms import square

pytestmark = pytest.mark.slow


def test_normalisation_is_that_of_the_imagenet_weights():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.float32)
    expected = keras.applications.vgg19.preprocess_input(pixels.copy())
    np.testing.assert_allclose(ImageNetNormalisation()(pixels / 255), expected, atol=1e-4)


def test_the_network_is_the_one_of_the_paper():
    network = VGG19.build(square(224), 2, head=HeadShape(), seed=0)
    assert network.count_params() == 23_244_162
    assert sum(int(np.prod(w.shape)) for w in network.trainable_weights) == 3_219_778
    names = [layer.name for layer in network.layers][-6:]
    assert names == ["flatten", "dropout_1", "dense_1", "dropout_2", "dense_2", "logits"]


def test_its_last_blocks_can_be_trained_alone():
    network = VGG19.build(square(32), 2, head=HeadShape((8,)), seed=0)
    unfreeze(network, 2)
    trained = [layer.name for layer in network.layers if layer.trainable and layer.weights]
    blocks = [f"block{block}_conv{number}" for block in (4, 5) for number in (1, 2, 3, 4)]
    assert trained == [*blocks, "dense_1", "logits"]


def test_weights_depend_on_the_seed_alone():
    kernels = [VGG19.base(square(32), seed=s).get_layer("block5_conv4").get_weights()[0] for s in (1, 1, 2)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.any(kernels[0] != kernels[2])


def test_he_initialisation_keeps_the_variance_through_all_sixteen_layers():
    flat = flatten(VGG19.base(square(64), seed=3))
    values = Classifier(flat, batch_size=4).logits(np.random.default_rng(0).random((4, 64, 64, 3), np.float32))
    assert 0.2 < values.std() < 20


def test_weights_saved_from_keras_load_from_a_path(tmp_path):
    source = keras.applications.VGG19(weights=None, include_top=False, input_shape=(32, 32, 3))
    source.save_weights(tmp_path / "base.weights.h5")
    base = VGG19.base(square(32), weights=str(tmp_path / "base.weights.h5"), seed=0)
    expected = source.get_layer("block4_conv2").get_weights()[0]
    np.testing.assert_array_equal(base.get_layer("block4_conv2").get_weights()[0], expected)


def test_an_error_names_the_valid_weights():
    with pytest.raises(ModelError, match="expected none, imagenet or the path"):
        VGG19.base(square(32), weights="nowhere.h5", seed=0)


def test_an_error_names_a_file_without_weights(tmp_path):
    (tmp_path / "weights.h5").write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"weights\.h5 is not a Keras file with the weights of VGG-19"):
        VGG19.base(square(32), weights=str(tmp_path / "weights.h5"), seed=0)


def test_too_small_pictures_are_rejected():
    with pytest.raises(ModelError, match="at least 32"):
        VGG19.base(square(16), seed=0)
