import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from buckler.errors import InputRangeError, ModelError
from buckler.models import runtime
from buckler.models.forward import probabilities
from buckler.models.runtime import Runtime, RuntimeInfo

AMX = {"amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni"}
OLD = {"avx2", "avx512f"}


def opened(exported, precision, **settings):
    return Runtime(exported / runtime.FILES[precision], precision, **settings)


def test_float32_gives_the_references_logits_and_features(exported, tiny_classifier, tiny_pictures):
    ours, theirs = (network.forward(tiny_pictures[0]) for network in (opened(exported, "float32"), tiny_classifier))
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)
    np.testing.assert_allclose(ours.features, theirs.features, rtol=1e-3, atol=1e-3)


def test_eight_bits_change_the_answers_slightly(exported, tiny_classifier, tiny_pictures):
    ours, theirs = (network.forward(tiny_pictures[0]) for network in (opened(exported, "int8"), tiny_classifier))
    moved = np.abs(probabilities(ours.logits) - probabilities(theirs.logits)).max()
    assert 0 < moved < 0.1
    assert np.corrcoef(ours.features.ravel(), theirs.features.ravel())[0, 1] > 0.99


def test_one_level_on_one_pixel_changes_the_eight_bit_logits(exported, tiny_pictures):
    picture = tiny_pictures[0][:1]
    moved = picture.copy()
    moved[0, 5, 5, 0] += 1 / 255 if moved[0, 5, 5, 0] < 0.5 else -1 / 255
    before, after = (opened(exported, "int8").forward(images).features[0] for images in (picture, moved))
    assert not np.array_equal(before, after)


def test_eight_bit_results_do_not_depend_on_streams_threads_or_batch(exported, tiny_pictures):
    images = tiny_pictures[0]
    alone = opened(exported, "int8", threads=1)
    together = opened(exported, "int8", streams=2, threads=2).logits(images)
    np.testing.assert_array_equal(together, np.concatenate([alone.logits(one[None]) for one in images]))


def test_parallel_threads_get_their_own_results(exported, tiny_pictures):
    images, shared, found = tiny_pictures[0], opened(exported, "int8", streams=2), {}
    expected = shared.logits(images)

    def ask(place):
        for _ in range(5):
            found[place] = shared.logits(images[place][None])[0]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.stack([found[place] for place in range(len(images))]), expected)


def test_the_last_features_are_pooled_from_the_maps(exported, tiny_pictures):
    forward = opened(exported, "float32").forward(tiny_pictures[0], maps=True)
    assert forward.maps.shape == (11, 4, 4, 64)
    np.testing.assert_allclose(forward.maps.mean(axis=(1, 2)), forward.features[:, -128:-64], rtol=1e-3, atol=1e-5)


class CountedRequest:
    """A real request that counts its inferences."""

    def __init__(self, request):
        self.request, self.inferences = request, 0

    def infer(self, *args, **settings):
        self.inferences += 1
        return self.request.infer(*args, **settings)

    def get_tensor(self, name):
        return self.request.get_tensor(name)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_maps_come_from_the_inference_that_gives_the_logits(exported, tiny_pictures, precision):
    network, pictures = opened(exported, precision), tiny_pictures[0][:3]
    request = CountedRequest(network._free.get())
    network._free.put(request)
    explained = network.forward(pictures, maps=True)
    assert request.inferences == len(pictures)
    plain = network.forward(pictures)
    assert plain.maps is None
    np.testing.assert_array_equal(explained.logits, plain.logits)
    np.testing.assert_array_equal(explained.features, plain.features)


def test_an_empty_batch_gives_empty_results(exported):
    forward = opened(exported, "int8").forward(np.zeros((0, 32, 32, 3), np.float32), maps=True)
    assert forward.logits.shape == (0, 2)
    assert forward.features.shape == (0, 320)
    assert forward.maps.shape == (0, 4, 4, 64)


def test_progress_is_reported_for_every_picture(exported, tiny_pictures):
    told = []
    opened(exported, "int8").forward(tiny_pictures[0], told.append)
    assert sum(told) == len(tiny_pictures[0])


def test_pixels_out_of_range_or_of_another_shape_are_rejected(exported):
    network = opened(exported, "int8")
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        network.logits(np.full((1, 32, 32, 3), 2, np.float32))
    with pytest.raises(ValueError, match=r"expected images of shape \('batch', 32, 32, 3\), got \(1, 16, 16, 3\)"):
        network.logits(np.zeros((1, 16, 16, 3), np.float32))


def test_the_same_network_and_pictures_give_the_same_bytes(exported, tiny_network, tiny_pictures, tmp_path):
    from buckler.models import export

    export.write(tiny_network, tiny_pictures[0], tmp_path)
    for name in ("float32.xml", "float32.bin", "int8.xml", "int8.bin"):
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes(), name


@pytest.mark.parametrize(
    ("precisions", "flags", "chosen"),
    [
        (("int8", "bfloat16", "float32"), AMX, "int8"),
        (("bfloat16", "float32"), AMX, "bfloat16"),
        (("int8", "bfloat16", "float32"), {"avx512_vnni"}, "int8"),
        (("int8", "bfloat16", "float32"), {"avx512_bf16"}, "bfloat16"),
        (("int8", "bfloat16", "float32"), OLD, "float32"),
        (("int8", "float32"), {"avx512_bf16"}, "float32"),
        (("float32",), AMX, "float32"),
    ],
)
def test_the_first_precision_of_the_processor_is_chosen(precisions, flags, chosen):
    assert runtime.choose(precisions, flags) == chosen


def test_loading_chooses_a_precision_of_the_processor(exported):
    assert Runtime.load(exported, flags=OLD).precision == "float32"
    assert Runtime.load(exported, flags=AMX).precision == "int8"


def test_a_network_without_precisions_is_not_exported(tmp_path):
    assert not runtime.is_exported(tmp_path)
    RuntimeInfo((), "keras").save(tmp_path)
    assert not runtime.is_exported(tmp_path)
    with pytest.raises(ModelError, match="was not exported; load it with Keras"):
        Runtime.load(tmp_path)


@pytest.mark.parametrize("precisions", [("int8",), ("float32", "int8"), ("bfloat16", "int8", "float32")])
def test_precisions_without_float32_or_out_of_order_are_rejected(precisions):
    with pytest.raises(ValueError, match="in this order, float32 among them"):
        RuntimeInfo(precisions, "test")


def test_damaged_files_are_rejected(exported, tmp_path):
    for name in ("int8.xml", "int8.bin", "runtime.json"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    with pytest.raises(ModelError, match=r"float32\.xml cannot be loaded"):
        Runtime.load(tmp_path, flags=OLD)
    (tmp_path / "int8.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"int8\.xml cannot be loaded"):
        Runtime.load(tmp_path, flags=AMX)
    (tmp_path / "runtime.json").write_text("{}")
    with pytest.raises(ModelError, match="does not describe an exported network"):
        Runtime.load(tmp_path)
    (tmp_path / "runtime.json").write_text(json.dumps({"schema": 2, "engine": "x", "precisions": ["float32"]}))
    with pytest.raises(ModelError, match="expected schema 1, got 2"):
        Runtime.load(tmp_path)
    with pytest.raises(ModelError, match=r"no runtime\.json"):
        runtime.load_info(tmp_path / "elsewhere")


def test_the_runtime_sends_no_telemetry_and_loads_no_tensorflow(tmp_path):
    code = (
        "import sys, buckler.models.runtime, buckler.serving.predictor\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert not {'tensorflow', 'keras', 'nncf', 'sklearn'} & set(sys.modules)"
    )
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []


def referring(directory):
    """Write a network that OpenVINO runs on its constants where they are, in the file if that is mapped."""
    import openvino as ov
    from openvino import opset13 as op

    pixels = op.parameter([1, 32, 32, 3], np.float32)
    maps = op.add(pixels, op.constant(np.random.default_rng(0).random((1, 32, 32, 3)).astype(np.float32)))
    features = op.reduce_mean(maps, op.constant(np.array([1, 2])), False)
    logits = op.matmul(features, op.constant(np.ones((3, 2), np.float32)), False, False)
    outputs = {runtime.LOGITS: logits, runtime.FEATURES: features, runtime.MAPS: maps}
    for name, node in outputs.items():
        node.output(0).get_tensor().set_names({name})
    file = directory / runtime.FILES["float32"]
    ov.save_model(ov.Model(list(outputs.values()), [pixels]), file, compress_to_fp16=False)
    return file


@pytest.mark.parametrize("asked_before", [True, False])
def test_weights_that_are_changed_after_loading_change_no_answer(tmp_path, asked_before):
    file, picture = referring(tmp_path), np.full((1, 32, 32, 3), 0.5, np.float32)
    network, expected = Runtime(file, "float32"), Runtime(file, "float32").logits(picture)
    if asked_before:
        network.logits(picture)
    weights = file.with_suffix(".bin")
    with weights.open("r+b") as opened_weights:
        opened_weights.write(bytes(weights.stat().st_size))
    np.testing.assert_array_equal(network.logits(picture), expected)


def test_weights_that_are_truncated_after_loading_do_not_kill_the_process(tmp_path):
    referring(tmp_path)
    # In another process: it would be killed by SIGBUS, since a mapped page without a file cannot be read.
    script = (
        "import os, numpy as np; from pathlib import Path; from buckler.models.runtime import Runtime\n"
        f"network = Runtime(Path({str(tmp_path)!r}) / 'float32.xml', 'float32')\n"
        f"os.truncate(Path({str(tmp_path)!r}) / 'float32.bin', 0)\n"
        "print(network.logits(np.full((1, 32, 32, 3), 0.5, np.float32)).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.array(json.loads(done.stdout)).shape == (1, 2)


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_network_without_one_of_its_files_or_with_half_of_it_is_refused(tmp_path, suffix):
    file = referring(tmp_path)
    half = file.with_suffix(suffix).read_bytes()[: file.with_suffix(suffix).stat().st_size // 2]
    file.with_suffix(suffix).write_bytes(half)
    with pytest.raises(ModelError, match="cannot be loaded as an exported network"):
        Runtime(file, "float32")
    file.with_suffix(suffix).unlink()
    with pytest.raises(ModelError, match="cannot be loaded as an exported network"):
        Runtime(file, "float32")
