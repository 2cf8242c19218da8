"""A restoration step goes the whole way: features, training, attacks, promoted release, service."""

import json

import numpy as np
import pytest

from buckler.modality.picture import images
from buckler.modality.picture.restoration import table
from buckler.models import checkpoint, restored
from buckler.models.classifier import Classifier
from buckler.models.forward import probabilities
from buckler.serving.predictor import Predictor
from tests import verdicts
from tests.pipelines.checkout import Checkout
from tests.services.running import serving

pytestmark = pytest.mark.slow
STEP = "nl_means"


@pytest.fixture(scope="module")
def project(module_tmp_path):
    made = Checkout(module_tmp_path / "project", **{"data.restore": STEP})
    result = made("dvc", "repro")
    assert result.returncode == 0, result.stdout + result.stderr
    return made


@pytest.fixture(scope="module")
def noisy(project):
    """A drawn picture of the run with the noise of a poor camera, which the step takes away."""
    path = next((project.root / "data/images/malignant").glob("*.png"))
    pixels = images.load_pixels(path)
    return np.rint(np.clip(pixels + np.random.default_rng(3).normal(0, 0.1, pixels.shape), 0, 1) * 255) / 255


def test_model_surrogate_and_bill_of_materials_name_the_step(project):
    for place in ("models/classifier", "models/surrogate", "models/release/model"):
        assert checkpoint.load_info(project.root / place).restore == STEP
    bill = json.loads((project.root / "models/release/evidence/bom.cdx.json").read_text())
    assert {"name": "buckler:restoration", "value": STEP} in bill["metadata"]["component"]["properties"]


def test_the_attacker_gets_through_the_step(project):
    checks = {check["kind"]: check for check in project.report("robustness.json")["checks"]}
    for kind in ("gradients", "uphill", "at_least_fgsm", "huge_radius", "transfer"):
        assert checks[kind]["passed"], checks[kind]


def test_the_service_answers_as_the_network_behind_the_step(project, noisy, tmp_path):
    model = project.root / "models/release/model"
    offline = Predictor.of(model, verdicts.verdict())(noisy.astype(np.float32))
    network = Classifier(checkpoint.load_network(model), batch_size=1)
    behind = restored.RestoredClassifier(table.find(STEP), network).logits(noisy[None].astype(np.float32))
    plain = network.logits(noisy[None].astype(np.float32))
    assert np.abs(behind - plain).max() > 0.01
    settings = {"BUCKLER_RELEASE": str(project.root / "models/release"), "BUCKLER_WORKERS": "1"}
    with serving(tmp_path, project.root / ".buckler/keys", **settings) as server:
        answer = server.predict(images.to_png(noisy.astype(np.float32)), "noisy.png").json()
        card = server.get("/model").json()
    assert answer["probabilities"] == pytest.approx(offline.probabilities, abs=1e-5)
    assert answer["detector"]["score"] == pytest.approx(offline.score, rel=1e-3, abs=1e-3)
    label = offline.label
    place = checkpoint.load_info(model).labels.index(label)
    assert probabilities(behind).argmax() == place
    assert card["model"]["restore"] == STEP
    assert any(f"passes the step {STEP}" in limit for limit in card["limits"])
