"""Somebody else's network becomes one of the product's: the same answers, with taps, without what gets in the way."""

import re

import numpy as np
import pytest

from buckler.errors import ModelError
from buckler.models import allowed, checkpoint, export
from buckler.models.backend import keras
from buckler.models.classifier import Classifier, copy_in
from buckler.models.explanation import pool
from buckler.models.features import add_features, head_of
from buckler.models.networks import file, table
from buckler.models.randomised import RandomisedInput
from buckler.models.runtime import FILES, Runtime
from pipelines.stage import ROOT
from tests.forms import square
from tests.keras_files import SIDE, chain, residual, saved

pytestmark = pytest.mark.slow

SHAPE = (SIDE, SIDE, 3)
PICTURES = np.random.default_rng(3).random((6, *SHAPE), np.float32)
layers = keras.layers


@pytest.fixture
def path(tmp_path):
    return tmp_path / "theirs.keras"


@pytest.fixture
def theirs(path):
    """A network in a file, whose batch normalisation has seen something."""
    network = residual()
    network.compile("adam", "categorical_crossentropy")
    network.fit(PICTURES, np.eye(2)[np.arange(6) % 2], epochs=2, verbose=0)
    saved(network, path)
    return network


def load(path, **settings):
    return file.load(path, SHAPE, **settings)


def refused(path, message, **settings):
    with pytest.raises(ModelError, match=message) as error:
        load(path, **settings)
    assert "\n" not in str(error.value)


def test_the_logits_are_those_before_the_softmax_and_everything_is_said(theirs, path):
    loaded = load(path, classes=2)
    shares = keras.ops.softmax(loaded.network(PICTURES, training=False))
    np.testing.assert_allclose(shares, theirs(PICTURES, training=False), atol=1e-6)
    assert np.ptp(loaded.network(PICTURES, training=False)) > 0
    assert loaded.notes == (
        "left out, as they do nothing to an answer: flipped, turned",
        "the softmax of answer was taken off: attacks and detectors need logits",
        "taps: sum1 32x32x8, sum2 16x16x16, last 8x8x32",
    )


def test_models_inside_are_dissolved_and_layers_of_one_name_told_apart(path):
    def part(seed):
        picture = keras.Input((SIDE, SIDE, 3))
        start = keras.initializers.HeNormal(seed)
        return keras.Model(picture, layers.Conv2D(3, 3, padding="same", kernel_initializer=start, name="conv")(picture))

    network = keras.Sequential([keras.Input(SHAPE), part(1), part(2), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    loaded = load(saved(network, path)).network
    assert [layer.name for layer in loaded.layers if isinstance(layer, layers.Conv2D)] == ["conv", "conv_2"]
    assert not any(isinstance(layer, keras.Model) for layer in loaded.layers)
    np.testing.assert_allclose(loaded(PICTURES), network(PICTURES), atol=1e-6)


def test_a_layer_that_is_used_twice_stays_one_layer(path):
    picture = keras.Input(SHAPE)
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    values = layers.Conv2D(4, 3, name="end")(shared(shared(picture)))
    network = keras.Model(picture, layers.Dense(2)(layers.GlobalAveragePooling2D()(values)))
    loaded = load(saved(network, path)).network
    assert loaded.count_params() == network.count_params()
    np.testing.assert_allclose(loaded(PICTURES), network(PICTURES), atol=1e-6)
    refused(path, r"train\.taps: expected different layers, each used once", taps=["shared", "end"])


def test_arithmetic_and_constants_in_the_graph_stay(path):
    picture = keras.Input(SHAPE)
    values = keras.applications.vgg16.preprocess_input(picture * 255.0)
    values = (values / 127.5 - 1.0)[..., ::-1]
    values = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(values))
    network = keras.Model(picture, layers.Dense(2)(values))
    loaded = load(saved(network, path)).network
    np.testing.assert_allclose(loaded(PICTURES), network(PICTURES), atol=1e-4)


def test_normalisation_to_a_data_set_survives_copies_of_the_copy(path):
    normalise = layers.Normalization(name="normalise")
    normalise.adapt(PICTURES * [1.0, 2.0, 3.0] + 1)
    network = chain(before=(normalise,))
    loaded = load(saved(network, path)).network
    for each in (loaded, keras.models.clone_model(loaded), copy_in(loaded, "bfloat16")):
        each.set_weights(loaded.get_weights())
        np.testing.assert_allclose(each(PICTURES), network(PICTURES), atol=1e-2 if each is not loaded else 1e-6)


def test_features_are_those_of_the_layers_that_the_rule_or_the_user_names(theirs, path):
    inner = theirs.get_layer("base")
    until = keras.Model(inner.input, [inner.get_layer(name).output for name in ("sum1", "sum2", "last")])
    maps = [np.asarray(each) for each in until(PICTURES * 2 - 1, training=False)]
    expected = np.concatenate([part for each in maps for part in (each.mean((1, 2)), each.std((1, 2)))], axis=1)
    chosen = Classifier(load(path).network, batch_size=4).forward(PICTURES).features
    np.testing.assert_allclose(chosen, expected, atol=1e-4)
    named = Classifier(load(path, taps=["sum1", "last"]).network, batch_size=4).forward(PICTURES).features
    np.testing.assert_allclose(named, np.delete(expected, np.arange(16, 48), axis=1), atol=1e-4)


@pytest.mark.parametrize(
    ("taps", "trace", "probe", "cloud"),
    [
        (["last"], (0,), (0,), 0),
        (["sum2", "last"], (0, 1), (0,), 0),
        (["sum1", "sum2", "last"], (0, 1, 2), (0, 1), 1),
        (["conv1", "sum1", "sum2", "last"], (1, 2, 3), (1, 2), 2),
    ],
)
def test_detectors_read_taps_by_the_rule_that_the_products_own_networks_follow(theirs, path, taps, trace, probe, cloud):
    layout = table.layout_of(load(path, taps=taps).network)
    assert (layout.trace_taps, layout.probe_taps, layout.cloud_tap) == (trace, probe, cloud)
    for own in table.NETWORKS.values():
        if own.weights_of is not None:
            continue  # joins blocks of another network, and states the taps that they are
        last = len(own.taps) - 1
        assert (own.trace_taps, own.probe_taps) == (tuple(range(last - 2, last + 1)), (last - 2, last - 1))
        assert own.cloud_tap == last - 1


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (["sum3"], r"train\.taps: expected layers of .*theirs\.keras with maps, of which it has .*sum1.*, got sum3"),
        (["hidden"], "with maps, .* got hidden"),
        (["last", "sum1"], "expected different layers, each used once, first to last, got last, sum1; the order"),
        (["sum1", "sum1"], "expected different layers"),
    ],
)
def test_wrong_taps_are_refused_with_the_names_there_are(theirs, path, taps, message):
    refused(path, message, taps=taps)


@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50"])
def test_published_networks_have_taps_and_heat_maps(path, name):
    base = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(64, 64, 3))
    picture = keras.Input((64, 64, 3))
    values = layers.GlobalAveragePooling2D()(base(layers.Rescaling(255.0)(picture)))
    network = keras.Model(picture, layers.Dense(3, activation="softmax")(values))
    found = file.load(saved(network, path), (64, 64, 3), classes=3)
    sides = [int(re.search(r" (\d+)x", tap).group(1)) for tap in found.notes[-1].removeprefix("taps: ").split(", ")]
    assert sides == [32, 16, 8, 4, 2]
    assert table.layout_of(found.network).pooling == "mean"
    few = np.random.default_rng(1).random((2, 64, 64, 3), np.float32)
    shares = keras.ops.softmax(found.network(few, training=False))
    np.testing.assert_allclose(shares, network(few, training=False), atol=1e-5)


@pytest.mark.parametrize(
    ("after", "explained"),
    [
        ((), "mean"),
        ((layers.Dense(5, activation="relu"), layers.Dropout(0.5), layers.Dense(2, use_bias=False)), "mean"),
        ((layers.Dense(5), layers.ReLU(), layers.Dense(2)), "mean"),
        ((layers.Dense(5), layers.Activation("relu"), layers.Dense(2), layers.Softmax()), "mean"),
        ((layers.Dense(5, activation="tanh"), layers.Dense(2)), None),
        ((layers.Dense(5), layers.Dense(2)), None),
        ((layers.BatchNormalization(), layers.Dense(2)), None),
        ((layers.Dense(5, activation="relu"), layers.BatchNormalization(), layers.Dense(2)), None),
        ((layers.Dense(5), layers.ReLU(max_value=6), layers.Dense(2)), None),
    ],
)
def test_a_network_has_heat_maps_only_if_its_head_is_explained_exactly(path, after, explained):
    found = load(saved(chain(*after), path))
    network, head = found.network, head_of(found.network)
    assert table.layout_of(network).pooling == explained
    assert any("no heat maps" in note for note in found.notes) == (explained is None) == (head is None)
    if head:
        forward = Classifier(network, batch_size=2).forward(PICTURES[:2], maps=True)
        for maps, logits in zip(forward.maps, forward.logits, strict=True):
            values = pool(maps, head.pooling).ravel()
            for number, (kernel, bias) in enumerate(zip(head.kernels, head.biases, strict=True)):
                values = (np.maximum(values, 0) if number else values) @ kernel + bias
            np.testing.assert_allclose(values, logits, atol=1e-5)


@pytest.mark.parametrize(("size", "strides", "explained"), [(2, 2, "max"), (3, 2, None), (2, 1, None)])
def test_only_a_maximum_over_two_by_two_places_is_explained(path, size, strides, explained):
    network = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(4, 3), layers.MaxPooling2D(size, strides)])
    network.add(layers.Flatten())
    network.add(layers.Dense(2))
    assert table.layout_of(load(saved(network, path)).network).pooling == explained


def test_a_network_whose_answer_goes_round_the_last_tap_has_no_heat_maps(path):
    picture = keras.Input(SHAPE)
    first = layers.Conv2D(4, 3, padding="same", name="first")(picture)
    second = layers.Conv2D(4, 3, padding="same", name="second")(first)
    pooled = layers.GlobalAveragePooling2D()(second) + layers.GlobalAveragePooling2D()(first)
    network = keras.Model(picture, layers.Dense(2)(pooled))
    found = load(saved(network, path), taps=["first", "second"])
    assert head_of(found.network) is None


BINARY = (layers.Dense(1, activation="sigmoid"),)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda: residual(side=64),
            r"expected an input of 32 x 32 x 3, as data\.image_size says, got 64 x 64 x 3; set",
        ),
        (lambda: chain(layers.Dense(3)), "expected 2 outputs, in the alphabetical order of the labels, got .* of 3"),
        (lambda: chain(*BINARY), "expected one output for each label, got one alone; replace the last layer"),
        (lambda: chain(layers.Dense(2, activation="sigmoid")), "expected logits, .* through sigmoid; train the last"),
        (lambda: chain(layers.Dense(2, activation="relu", name="out")), "expected logits, .* of out through relu"),
        (lambda: chain(layers.Dense(2), layers.ReLU()), "expected logits, .* through ReLU"),
        (lambda: chain(layers.Reshape((2, 2)), layers.Dense(2)), "expected 2 outputs, .* got an output of 2 x 2"),
        (lambda: chain(before=(layers.Rescaling(1 / 255),)), r"expected a network for pixels in 0\.\.1, .* 0\.00392"),
        (lambda: chain(before=(layers.RandomFlip(), layers.Rescaling(1 / 127.5, -1))), r"0\.00784 .*Rescaling\(255"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_what_to_do(path, made, message):
    refused(saved(made(), path), message, classes=2)


def functional(*, inputs=1, outputs=1, training=None, divisor=None, side=SIDE):
    pictures = [keras.Input((side, side, 3)) for _ in range(inputs)]
    values = layers.Add()(pictures) if inputs > 1 else pictures[0]
    values = values / divisor if divisor else values
    values = layers.Dropout(0.5, name="drop")(layers.Conv2D(4, 3)(values), training=training)
    values = layers.GlobalAveragePooling2D()(values)
    return keras.Model(pictures, [layers.Dense(2)(values) for _ in range(outputs)])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"inputs": 2}, "expected one input and one output, got 2 and 1"),
        ({"outputs": 2}, "expected one input and one output, got 1 and 2"),
        ({"training": True}, "expected the same answer to the same picture, got drop, which is random"),
        ({"divisor": 255.0}, r"expected a network for pixels in 0\.\.1, .* 0\.00392 \(true_divide"),
    ],
)
def test_a_functional_network_that_does_not_fit_is_refused(path, made, message):
    refused(saved(functional(**made), path), message)


def test_a_network_without_maps_is_refused(path):
    network = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(2)])
    refused(saved(network, path), "expected convolutions with maps of more than one place")


def test_a_network_for_pictures_of_any_size_takes_that_of_the_data(path):
    found = load(saved(functional(side=None), path)).network
    assert found.input_shape == (None, *SHAPE)


def test_a_file_that_is_gone_is_one_error(tmp_path):
    refused(tmp_path / "gone.keras", r"train\.network: expected a Keras file, got .*gone\.keras: No such file")


def test_the_saved_copy_is_found_without_the_file(theirs, path, tmp_path):
    loaded = load(path, taps=["sum1", "last"]).network
    info = checkpoint.ModelInfo(("a", "b"), ("b",), square(SIDE), "sha256:0", architecture="file")
    checkpoint.save(loaded, info, tmp_path / "model")
    path.unlink()
    again = checkpoint.load_network(tmp_path / "model")
    assert [tap.channels for tap in table.taps_of(again)] == [8, 32]
    np.testing.assert_array_equal(again(PICTURES, training=False), loaded(PICTURES, training=False))
    features = (add_features(each)(PICTURES, training=False)[1] for each in (again, loaded))
    np.testing.assert_array_equal(*features)
    twin = copy_in(again, "bfloat16")
    assert table.layout_of(twin) == table.layout_of(again)


def test_a_network_of_this_product_may_be_the_file(theirs, path):
    first = load(path).network
    second = load(saved(first, path)).network
    assert len(table.taps_of(second)) == len(table.taps_of(first)) == 3
    np.testing.assert_array_equal(second(PICTURES, training=False), first(PICTURES, training=False))
    random = load(path, before=RandomisedInput(0.8, 4, 1, name="randomised")).network
    assert random.layers[1].name == "randomised"
    refused(saved(random, path), "expected the same answer to the same picture, got randomised")


@pytest.mark.parametrize("after", [(), (layers.Dense(5, activation="tanh"), layers.Dense(2))])
def test_the_exported_network_answers_like_the_reference(path, tmp_path, after):
    network = load(saved(chain(*after), path)).network
    export.write(network, PICTURES, tmp_path / "runtime")
    runtime = Runtime(tmp_path / "runtime" / FILES["float32"], "float32")
    ours, theirs = runtime.forward(PICTURES), Classifier(network, batch_size=3).forward(PICTURES)
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)
    np.testing.assert_allclose(ours.features, theirs.features, atol=1e-4)
    assert (tmp_path / "runtime/head.npz").exists() == (not after)


def test_a_network_of_convolutions_alone_is_exported(path, tmp_path):
    network = keras.Sequential([keras.Input(SHAPE), layers.DepthwiseConv2D(3), layers.Conv2D(2, 1)])
    network.add(layers.GlobalAveragePooling2D())
    found = load(saved(network, path))
    export.write(found.network, PICTURES, tmp_path / "runtime")
    for name in ("float32", "int8"):
        runtime = Runtime(tmp_path / "runtime" / FILES[name], name)
        np.testing.assert_allclose(runtime.logits(PICTURES), network(PICTURES), atol=1e-4 if name == "float32" else 0.1)


def test_a_layer_that_cannot_be_exported_is_one_error(path, tmp_path, monkeypatch):
    network = load(saved(chain(), path)).network

    def refuse(*arguments):
        raise RuntimeError("No translator found\nfor TheirOp")

    monkeypatch.setattr(export.ov, "convert_model", refuse)
    with pytest.raises(ModelError, match=r"that OpenVINO can convert, got .* No translator found for TheirOp; replace"):
        export.write(network, PICTURES, tmp_path)


def test_the_guide_lists_what_is_allowed():
    words = re.findall(r"\w+", (ROOT / "docs/how-to/own-network.md").read_text())
    assert set(words) >= allowed.LAYERS | allowed.ACTIVATIONS
