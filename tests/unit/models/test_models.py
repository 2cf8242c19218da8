import json
import os
import platform
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from buckler.compute import machine
from buckler.errors import InputRangeError, ModelError
from buckler.models import checkpoint
from buckler.models.backend import keras
from buckler.models.classifier import Classifier
from buckler.models.networks.tiny import TINY
from buckler.trust import digests
from tests.forms import square

pytestmark = pytest.mark.slow

INFO = checkpoint.ModelInfo(("benign", "malignant"), ("malignant",), square(32), "sha256:0", architecture="tiny")


def test_results_do_not_depend_on_the_batch(tiny_classifier, tiny_pictures):
    images, truth = tiny_pictures
    forward = tiny_classifier.forward(images)
    gradient, logits = tiny_classifier.loss_gradient(images, truth)
    alone = tiny_classifier.forward(images[5:6])
    lonely_gradient, _ = tiny_classifier.loss_gradient(images[5:6], truth[5:6])
    np.testing.assert_allclose(forward.logits[5:6], alone.logits, atol=1e-5)
    np.testing.assert_allclose(forward.features[5:6], alone.features, atol=1e-4)
    np.testing.assert_allclose(gradient[5:6], lonely_gradient, atol=1e-6)
    np.testing.assert_allclose(forward.logits, logits, atol=1e-5)
    np.testing.assert_allclose(forward.logits, tiny_classifier.logits(images), atol=1e-5)


@pytest.mark.parametrize("name", ["cross_entropy", "margin", "logit"])
def test_gradient_is_the_slope_of_the_loss(tiny_classifier, tiny_pictures, name):
    images, truth = tiny_pictures[0][:4].clip(0.1, 0.9), tiny_pictures[1][:4]
    gradient, _ = tiny_classifier.loss_gradient(images, truth, name)

    def loss(pixels):
        logits = tiny_classifier.logits(pixels).astype(np.float64)
        own, other = logits[np.arange(4), truth], logits[np.arange(4), 1 - truth]
        return {"cross_entropy": np.log1p(np.exp(other - own)), "margin": other - own, "logit": own}[name]

    step = np.float32(5e-4) * np.sign(gradient)
    slope = (loss(images + step) - loss(images - step)) / 2
    np.testing.assert_allclose(slope, np.abs(step * gradient).sum(axis=(1, 2, 3)), rtol=0.15, atol=1e-4)


def test_the_bfloat16_copy_agrees_and_has_the_same_weights(tiny_network, tiny_pictures):
    images, _ = tiny_pictures
    exact, fast = (Classifier(tiny_network, p).forward(images) for p in ("float32", "bfloat16"))
    assert np.any(exact.logits != fast.logits)
    np.testing.assert_allclose(exact.logits, fast.logits, atol=0.05 * np.abs(exact.logits).max())


def test_features_are_mean_and_spread_of_each_tap(tiny_network, tiny_classifier, tiny_pictures):
    images = tiny_pictures[0][:2]
    features = tiny_classifier.forward(images).features
    for place, tap in enumerate(TINY.taps):
        maps = keras.Model(tiny_network.input, tiny_network.get_layer(tap.layer).output)(images).numpy()
        own = features[:, TINY.columns([place])]
        np.testing.assert_allclose(own[:, : tap.channels], maps.mean(axis=(1, 2)), atol=1e-4)
        np.testing.assert_allclose(own[:, tap.channels :], maps.std(axis=(1, 2)), atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_maps_are_the_last_taps_and_leave_the_results_as_they_are(tiny_network, tiny_pictures, precision):
    classifier, images = Classifier(tiny_network, precision, batch_size=4), tiny_pictures[0]
    plain, explained = classifier.forward(images), classifier.forward(images, maps=True)
    assert plain.maps is None
    np.testing.assert_allclose(explained.logits, plain.logits, atol=1e-5)
    np.testing.assert_allclose(explained.features, plain.features, atol=1e-4)
    assert (explained.maps.shape, explained.maps.dtype) == ((11, 4, 4, 64), np.float32)
    # The last features are these maps' means and deviations.
    np.testing.assert_allclose(explained.maps.mean(axis=(1, 2)), explained.features[:, -128:-64], rtol=1e-3, atol=1e-4)


def test_a_keras_model_of_unknown_architecture_has_logits_and_no_features(tiny_pictures):
    pixels = keras.Input((32, 32, 3))
    foreign = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(pixels)))
    forward = Classifier(foreign, batch_size=4).forward(tiny_pictures[0])
    np.testing.assert_allclose(forward.logits, foreign(tiny_pictures[0]), atol=1e-6)
    assert forward.features.shape == (11, 0)
    with pytest.raises(ModelError, match="expected one of the networks vgg19, "):
        Classifier(foreign, batch_size=4).forward(tiny_pictures[0], maps=True)


def test_an_empty_batch_gives_empty_results(tiny_classifier):
    none = np.zeros((0, 32, 32, 3), np.float32)
    assert tiny_classifier.forward(none).logits.shape == (0, 2)
    assert tiny_classifier.forward(none, maps=True).maps.shape == (0, 4, 4, 64)
    assert tiny_classifier.logits(none).shape == (0, 2)


def test_pictures_out_of_range_or_of_another_shape_are_rejected(tiny_classifier):
    with pytest.raises(InputRangeError, match="before normalisation"):
        tiny_classifier.logits(np.full((1, 32, 32, 3), 2.0, np.float32))
    with pytest.raises(ValueError, match="expected images of shape"):
        tiny_classifier.logits(np.zeros((1, 16, 16, 3), np.float32))


def test_a_loaded_classifier_answers_like_the_saved_one(tmp_path, tiny_network, tiny_pictures):
    checkpoint.save(tiny_network, INFO, tmp_path)
    assert checkpoint.load_info(tmp_path) == INFO
    images, _ = tiny_pictures
    loaded = Classifier(checkpoint.load_network(tmp_path)).logits(images)
    np.testing.assert_allclose(loaded, Classifier(tiny_network).logits(images), atol=1e-5)


def test_equal_networks_are_saved_as_equal_bytes(tmp_path, tiny_network):
    first, again = tmp_path / "first", tmp_path / "again"
    checkpoint.save(tiny_network, INFO, first)
    twin = checkpoint.load_network(first)  # new objects at other memory addresses
    time.sleep(1.1)  # Keras stores the time in seconds
    checkpoint.save(twin, INFO, again)
    assert digests.directory_digest(first) == digests.directory_digest(again)


def test_nothing_in_a_checkpoint_is_pickled(tmp_path, tiny_network):
    checkpoint.save(tiny_network, INFO, tmp_path)
    with zipfile.ZipFile(tmp_path / "classifier.keras") as archive:
        assert {name.rsplit(".", 1)[-1] for name in archive.namelist()} <= {"json", "h5"}


def test_a_checkpoint_with_code_is_rejected(tmp_path):
    pixels = keras.Input((32, 32, 3))
    code = keras.layers.Lambda(lambda x: x * 2, output_shape=(3,))(keras.layers.GlobalAveragePooling2D()(pixels))
    evil = keras.Model(pixels, keras.layers.Dense(2)(code), name="tiny")
    checkpoint.save(evil, INFO, tmp_path)
    with pytest.raises(ModelError, match=r"expected only layers.*got keras\.layers\.Lambda"):
        checkpoint.load_network(tmp_path)


@pytest.mark.parametrize("schema", [1, 2])
def test_a_model_of_a_version_that_knew_only_pictures_is_read(tmp_path, tiny_network, schema):
    checkpoint.save(tiny_network, INFO, tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    earlier = {name: value for name, value in described.items() if name not in ("shape", "modality", "restore")}
    (tmp_path / "model.json").write_text(json.dumps({**earlier, "schema": schema, "image_size": 32}))
    assert checkpoint.load_info(tmp_path) == INFO
    checkpoint.load_network(tmp_path)


def test_a_model_of_a_version_without_restoration_steps_is_read(tmp_path, tiny_network):
    checkpoint.save(tiny_network, INFO, tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    del described["restore"]
    (tmp_path / "model.json").write_text(json.dumps({**described, "schema": 3}))
    assert checkpoint.load_info(tmp_path) == INFO


def test_an_error_names_a_damaged_or_mismatched_checkpoint(tmp_path, tiny_network):
    with pytest.raises(ModelError, match=r"no model\.json"):
        checkpoint.load_network(tmp_path)
    checkpoint.save(tiny_network, INFO, tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**described, "labels": ["a", "b", "c"]}))
    with pytest.raises(ModelError, match="expected network, input and classes"):
        checkpoint.load_network(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**described, "schema": 99}))
    with pytest.raises(ModelError, match="expected schema 1, 2, 3 or 4, got 99"):
        checkpoint.load_network(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**described, "restore": "blur"}))
    with pytest.raises(ModelError, match=r"expected one of the restoration steps none, nl_means, .*, got 'blur'"):
        checkpoint.load_network(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**described, "architecture": "vgg19"}))
    with pytest.raises(ModelError, match=r"'vgg19', 32, 32, 3, 2.*got \('tiny', "):
        checkpoint.load_network(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**described, "architecture": "resnet"}))
    with pytest.raises(ModelError, match=r"expected one of the networks vgg19, .*, small, tiny, conv1d, got resnet"):
        checkpoint.load_network(tmp_path)


@pytest.mark.parametrize(("flags", "expected"), [("amx_bf16 avx2", "bfloat16"), ("avx2 avx512f", "float32")])
def test_precision_follows_the_processor(tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: fpu {flags}\n")
    assert machine.crafting_precision(tmp_path / "cpuinfo") == expected
    assert machine.crafting_precision(tmp_path / "absent") == "float32"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx avx2 avx512f amx_bf16", "amx_bf16"), ("avx avx2", "avx2"), ("asimd", platform.machine())],
)
def test_the_newest_vector_instructions_are_named(tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flags}\n")
    assert machine.instruction_set(tmp_path / "cpuinfo") == expected


def test_the_environment_overrides_the_precision(monkeypatch):
    monkeypatch.setenv("BUCKLER_PRECISION", "float32")
    assert machine.crafting_precision() == "float32"
    monkeypatch.setenv("BUCKLER_PRECISION", "float8")
    with pytest.raises(ValueError, match="expected BUCKLER_PRECISION"):
        machine.crafting_precision()


LOAD = """
import buckler.models.networks.table
from tensorflow.python.util import _pywrap_util_port
from tests.forms import square
print(_pywrap_util_port.IsMklEnabled())
"""


@pytest.mark.parametrize(("setting", "used"), [({}, "True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "False")])
def test_tensorflow_loads_with_onednn_unless_turned_off_and_without_its_banner(monkeypatch, setting, used):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    environment = {**os.environ, **setting}
    result = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True, env=environment)
    assert (result.stdout.strip(), result.stderr) == (used, "")
