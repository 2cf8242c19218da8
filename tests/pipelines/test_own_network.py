"""Somebody else's trained network goes the whole way: pipeline, promoted release, service and watch."""

import json
import re
from pathlib import Path

import httpx
import numpy as np
import pytest

from buckler.modality.picture import images, synthetic
from buckler.models import checkpoint
from buckler.models.backend import keras
from buckler.trust.digests import file_digest
from tests.keras_files import SIDE, residual, saved
from tests.pipelines.checkout import Checkout
from tests.services.running import TLS, serving

pytestmark = pytest.mark.slow
FILE = "models/theirs.keras"


def drawn(count, seed):
    """Return pictures of both classes, as the pipeline reads them, and their labels."""
    labels = np.arange(count) % 2
    pixels = [synthetic.draw(synthetic.LABELS[label], i, seed=seed, size=SIDE) for i, label in enumerate(labels)]
    return np.asarray(pixels, np.float32), labels


@pytest.fixture(scope="module")
def theirs():
    """A network that its author trained for a minute, on pictures of the same kind."""
    keras.utils.set_random_seed(1)
    network = residual()
    network.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(*drawn(400, seed=11), epochs=36, batch_size=32, verbose=0)
    return network


@pytest.fixture(scope="module")
def project(module_tmp_path, theirs):
    made = Checkout(module_tmp_path / "project", **{"train.network": f"file:{FILE}"})
    (made.root / "models").mkdir()
    saved(theirs, made.root / FILE)
    return made


def run(project, *command):
    result = project(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_it_is_evaluated_promoted_served_explained_and_attacked_again(project, theirs, tmp_path):
    said = run(project, "dvc", "repro")
    assert "models/theirs.keras: the softmax of answer was taken off" in said
    assert "models/theirs.keras: taps: sum1 32x32x8, sum2 16x16x16, last 8x8x32" in said
    digest = file_digest(project.root / FILE)
    for about in ("models/classifier/model.json", "models/release/model/model.json"):
        described = json.loads((project.root / about).read_text())
        assert (described["architecture"], described["initial_weights"], described["heat_maps"]) == (
            "file",
            digest,
            True,
        )
    bill = json.loads((project.root / "models/release/evidence/bom.cdx.json").read_text())
    assert ("network that was taken from a file", digest) in {(c["name"], c.get("version")) for c in bill["components"]}
    assert project.report("robustness.json")["model"]["initial_weights"] == digest
    assert project.report("evaluation.json")["clean_accuracy"]["value"] > 0.6

    (project.root / FILE).rename(project.root / "models/moved.keras")  # nothing below needs the file
    try:
        pictures, _ = drawn(8, seed=5)
        released = checkpoint.load_network(project.root / "models/release/model")
        shares = np.asarray(keras.ops.softmax(released(pictures, training=False)))
        np.testing.assert_allclose(shares, theirs(pictures, training=False), atol=1e-5)
        run(project, "buckler", "verify", "models/release")
        assert "promoted, the champion is version 1" in run(project, "buckler", "promote")
        run(project, "buckler", "watch", "--once", "reevaluate")
        is_served(project.root, tmp_path, pictures[1])
    finally:
        (project.root / "models/moved.keras").rename(project.root / FILE)


def is_served(root: Path, directory: Path, pixels):
    """Check that the release answers and explains, without TensorFlow."""
    content = images.to_png(pixels)
    settings = {"BUCKLER_RELEASE": str(root / "models/release"), "BUCKLER_WORKERS": "1"}
    with serving(directory, root / ".buckler/keys", **settings) as server:
        answer = server.predict(content, "picture.png").json()
        asked = {"files": {"image": ("picture.png", content)}, "headers": {"Accept": "application/json"}}
        explained = httpx.post(f"{server.url}/explain", timeout=60, verify=TLS, **asked).json()
        card = server.get("/model").json()
        loaded = [Path(f"/proc/{worker}/maps").read_text() for worker in server.workers()]
    assert explained["answer"]["probabilities"] == answer["probabilities"]
    assert explained["heat_map"] in ("shown", "flat", "unreliable")
    assert card["model"]["architecture"] == "file"
    assert card["model"]["initial_weights"] == file_digest(root / "models/moved.keras")
    assert any("trained elsewhere" in limit for limit in card["limits"])
    assert loaded
    assert not any("libtensorflow" in each for each in loaded)


def test_another_file_at_the_same_path_is_another_input(project):
    ran = re.findall("Running stage '(.*)'", run(project, "dvc", "repro", "train"))
    assert ran == ["weights"]
    saved(residual(end=None), project.root / FILE)
    said = run(project, "dvc", "repro", "train")
    assert re.findall("Running stage '(.*)'", said) == ["weights", "preflight", "features", "train"]
    assert "softmax" not in said
    described = json.loads((project.root / "models/classifier/model.json").read_text())
    assert described["initial_weights"] == file_digest(project.root / FILE)


def test_one_that_does_not_fit_is_refused_in_one_line_before_anything_runs(project):
    project.set(**{"data.image_size": 64})
    try:
        result = project("dvc", "repro")
    finally:
        project.set()
    assert result.returncode != 0
    assert "error: models/theirs.keras: expected an input of 64 x 64 x 3, as data.image_size says, got" in result.stderr
    assert "Traceback" not in result.stderr
    assert re.findall("Running stage '(.*)'", result.stdout) == ["weights", "preflight"]
