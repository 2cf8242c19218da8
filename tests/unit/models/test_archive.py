"""Keras archives of authors whom nobody knows."""

import io
import json
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from buckler.errors import ModelError
from buckler.models import allowed, archive
from buckler.models.backend import keras
from tests.keras_files import chain, layer, residual, rewritten, saved

pytestmark = pytest.mark.slow


@pytest.fixture
def theirs(tmp_path):
    return saved(chain(), tmp_path / "theirs.keras")


def load(path):
    return archive.load(path.read_bytes(), path)


def refused(path, message):
    with pytest.raises(ModelError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_an_ordinary_network_answers_as_keras_loads_it(tmp_path):
    network = residual()
    network.compile("adam", "categorical_crossentropy")
    path = saved(network, tmp_path / "theirs.keras")
    picture = np.random.default_rng(1).random((2, 32, 32, 3), np.float32)
    loaded = load(path)
    np.testing.assert_array_equal(loaded.network(picture, training=False), network(picture, training=False))
    assert not loaded.network.compiled
    assert not loaded.mixed


def test_code_in_a_lambda_is_refused_before_keras_reads_it(tmp_path, monkeypatch):
    path = saved(chain(keras.layers.Lambda(lambda values: values * 2, name="hidden_code")), tmp_path / "code.keras")

    def read(*arguments, **settings):
        raise AssertionError("Keras read the description")

    monkeypatch.setattr(keras.src.saving.saving_lib, "load_model", read)
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", read)
    refused(path, r"layer hidden_code: expected only layers.*got keras\.layers\.Lambda .*could run code")


# What came past Keras's safe mode, or would come past a list of class names alone.
HOSTILE = {
    "another module": {"module": "subprocess", "class_name": "Popen", "registered_name": None},
    "a module of Keras": {"module": "keras.utils", "class_name": "get_file", "registered_name": None},
    "internals of Keras": {"module": "keras.src.utils.file_utils", "class_name": "get_file"},
    "a layer that reads a folder": {"module": "keras.layers", "class_name": "TFSMLayer", "registered_name": None},
    "a layer that unpickles": {"module": "keras.layers", "class_name": "TorchModuleWrapper", "registered_name": None},
    "a layer of JAX": {"module": "keras.layers", "class_name": "JaxLayer", "registered_name": None},
    "a layer that reads files": {"module": "keras.layers", "class_name": "StringLookup", "registered_name": None},
    "a layer with state": {"module": "keras.layers", "class_name": "LSTM", "registered_name": None},
    "a wrapper": {"module": "keras.layers", "class_name": "TimeDistributed", "registered_name": None},
    "a registered name": {"module": "keras.layers", "class_name": "Dense", "registered_name": "buckler>MeanAndSpread"},
    "a name of nobody": {"module": "keras.layers", "class_name": "Dense", "registered_name": "theirs>Evil"},
    "no module": {"module": None, "class_name": "Dense", "registered_name": "Dense2"},
    "a list as a name": {"module": "keras.layers", "class_name": ["Dense"], "registered_name": None},
    "a typespec": {"module": "tensorflow", "class_name": "__typespec__", "registered_name": None, "spec_name": "x"},
    "a lambda as a value": {"module": "builtins", "class_name": "__lambda__", "registered_name": None},
    "bytes": {"module": "builtins", "class_name": "__bytes__", "registered_name": None},
}


@pytest.mark.parametrize("named", HOSTILE.values(), ids=HOSTILE)
def test_a_layer_that_is_not_on_the_list_is_refused(theirs, named):
    def change(config):
        layer(config, "conv").pop("registered_name")
        layer(config, "conv").update(named)

    refused(rewritten(theirs, change), "expected only layers, activations, .* of the list")


FUNCTION = {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"}
LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}}
SETTINGS = {
    "a function of Keras": ("activation", FUNCTION),
    "a function under builtins": ("activation", FUNCTION | {"module": "builtins"}),
    "a pickled function": ("activation", LAMBDA),
    "a name": ("activation", "buckler>MirrorPadding"),
    "a network": ("activation", {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp"}}),
    "an initialiser's name": ("kernel_initializer", "get_file"),
    "an initialiser": ("kernel_initializer", {"module": "keras.optimizers", "class_name": "Adam", "config": {}}),
    "a constraint": ("kernel_constraint", FUNCTION),
    "a list as a function": ("activation", FUNCTION | {"module": "builtins", "config": [1]}),
    "a value of another type": ("activation", {"class_name": "__tensor__", "config": ["variant"]}),
    "deep inside a list": ("strides", [[{"a": [FUNCTION]}]]),
}


@pytest.mark.parametrize(("key", "value"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting_that_names_anything_else_is_refused(theirs, key, value):
    def change(config):
        layer(config, "conv")["config"][key] = value

    refused(rewritten(theirs, change), "layer .*expected only layers, activations")


def test_a_network_that_is_no_functional_model_is_refused(theirs):
    def change(config):
        config.update(module="their_project.models", class_name="Classifier", registered_name="theirs>Classifier")

    refused(rewritten(theirs, change), "expected a Functional or Sequential network .*got Classifier; rebuild")


def test_optimisers_and_losses_are_never_built(tmp_path):
    network = residual()
    network.get_layer("base").compile("adam", "mse")
    network.compile("adam", "mse")
    path = saved(network, tmp_path / "theirs.keras")

    def change(config):
        for each in (config, next(part for part in config["config"]["layers"] if part["config"]["name"] == "base")):
            each["compile_config"] = {"optimizer": {"module": "os", "class_name": "system", "config": {}}}
            each["build_config"] = {"input_shape": [None, 1, 1, 1]}

    assert load(rewritten(path, change)).network.count_params() == network.count_params()


@pytest.mark.parametrize(
    ("members", "without", "message"),
    [
        ([("assets/vocabulary.txt", "x")], (), "got 4 members"),
        ([("../../evil.py", "x")], (), "got 4 members"),
        ([], ("config.json",), "got 2 members"),
        ([], ("model.weights.h5",), r"got 2 members .*save the network again with Keras 3"),
        ([(f"{number}.json", "") for number in range(2000)], (), "got 2003 members"),
    ],
)
def test_other_members_are_refused(theirs, members, without, message):
    refused(rewritten(theirs, members=members, without=without), message)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(theirs):
    refused(rewritten(theirs, members=[("config.json", "{}")]), "got 4 members")


def test_a_description_that_unpacks_to_gigabytes_is_refused_unread(theirs):
    with zipfile.ZipFile(theirs) as before:
        kept = {name: before.read(name) for name in ("metadata.json", "model.weights.h5")}
    with zipfile.ZipFile(theirs, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bomb:
        for name, content in kept.items():
            bomb.writestr(name, content)
        with bomb.open("config.json", "w") as member:
            for _ in range(40):
                member.write(b" " * (1 << 20))
    assert theirs.stat().st_size < 200_000
    refused(theirs, r"expected at most 33554432 bytes of text, unpacked, got 41943104")


def test_the_whole_archive_is_bounded(theirs, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 10_000)
    refused(theirs, "expected at most 10000 bytes of content")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>not found</html>"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "page.keras"
    path.write_bytes(content)
    refused(path, "cannot be loaded as a Keras network: .*; get a complete copy")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"class_name": ["Sequential"]}',
        '{"a": NaN}',
        "null",
        '"text"',
        '{"class_name": "Sequential"}',
    ],
)
def test_another_description_is_refused(theirs, text):
    refused(
        rewritten(theirs, without=("config.json",), members=[("config.json", text)]), "expected (JSON|a Functional)"
    )


def test_a_truncated_or_changed_archive_is_refused(theirs):
    content = theirs.read_bytes()
    theirs.write_bytes(content[: len(content) // 2])
    refused(theirs, "get a complete copy")
    flipped = bytearray(content)
    flipped[content.index(b"HDF")] ^= 0xFF
    theirs.write_bytes(flipped)
    refused(theirs, "get a complete copy")


def with_weights(path, change):
    with zipfile.ZipFile(path) as old:
        content = io.BytesIO(old.read("model.weights.h5"))
    with h5py.File(content, "r+") as weights:
        change(weights)
    return rewritten(path, without=("model.weights.h5",), members=[("model.weights.h5", content.getvalue())])


def test_weights_that_link_to_other_files_or_claim_huge_arrays_are_refused(tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones(3)
    cases = {
        "links to another place": lambda weights: weights.__setitem__("x", h5py.ExternalLink(str(other), "secret")),
        "x links to another": lambda weights: weights.__setitem__("x", h5py.SoftLink("/layers")),
        "is there twice": lambda weights: weights.__setitem__("layers/x", weights["layers"]),
        "is no array of numbers": lambda weights: weights.create_dataset("x", (2,), h5py.string_dtype()),
        "array of numbers in this file": lambda weights: weights.create_dataset(
            "x", (3,), "float64", external=[(str(other), 0, 24)]
        ),
        "expected at most 536870912 numbers": lambda weights: weights.create_dataset(
            "x", (1 << 20, 1 << 20), "float32", chunks=(1024, 1024), compression="gzip"
        ),
    }
    for message, change in cases.items():
        refused(with_weights(saved(chain(), tmp_path / "theirs.keras"), change), message)


def test_a_description_of_more_weights_than_the_file_has_is_refused_without_taking_memory(theirs):
    def change(config):
        layer(config, "conv")["config"]["filters"] = 10**11

    refused(rewritten(theirs, change), r"expected at least \d{13} numbers in model\.weights\.h5, .* got 122")


def test_a_layer_with_a_huge_output_is_refused(tmp_path):
    path = saved(chain(before=(keras.layers.UpSampling2D(2, name="larger"),)), tmp_path / "theirs.keras")

    def change(config):
        layer(config, "larger")["config"]["size"] = [10_000, 10_000]

    refused(rewritten(path, change), "expected layers with outputs of at most 268435456 numbers")


def test_missing_weights_are_refused(theirs):
    def remove(weights):
        values = weights["layers/dense/vars"]
        spare = weights.create_group("spare")
        weights.move(f"{values.name}/0", f"{spare.name}/0")

    refused(with_weights(theirs, remove), "cannot be loaded as a Keras network")


def test_weights_that_are_no_numbers_are_refused(theirs):
    def change(weights):
        weights["layers/dense/vars/0"][0, 0] = np.nan

    refused(with_weights(theirs, change), "expected finite numbers, got 1 of 8 that are NaN or infinite")


def test_mixed_precision_becomes_float32_and_half_precision_is_refused(tmp_path):
    for policy in ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16"):
        keras.config.set_dtype_policy(policy)
        try:
            network = chain(keras.layers.Dense(2, dtype="float32"))
        finally:
            keras.config.set_dtype_policy("float32")
        path = saved(network, tmp_path / f"{policy}.keras")
        if policy.startswith("mixed"):
            loaded = load(path)
            assert loaded.mixed
            assert {weight.dtype for weight in loaded.network.weights} == {"float32"}
            assert {each.compute_dtype for each in loaded.network.layers} == {"float32"}
        else:
            refused(path, f"expected float32 inputs, weights and layers, got '?{policy}")


def test_a_network_for_bytes_is_refused(tmp_path):
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    network = keras.Model(pixels, chain()(keras.layers.Rescaling(1 / 255)(pixels)))
    refused(saved(network, tmp_path / "bytes.keras"), "expected float32 inputs, .* got uint8; build the network again")


@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "VGG16", "EfficientNetB0"])
def test_the_networks_of_keras_applications_are_on_the_list(name):
    made = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(96, 96, 3))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(made)))
    assert allowed.checked(config, Path(name)).config["class_name"] == "Functional"


def test_loading_warns_of_nothing(tmp_path):
    path = saved(residual(), tmp_path / "theirs.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path)
