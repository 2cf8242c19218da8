"""The real job: a published, promoted VGG-19 at its smallest, its pictures, and MLflow."""

import json
import shutil
from dataclasses import replace

import mlflow
import numpy as np
import pytest

from buckler import promotion, publishing, release, signing, tracking, watch
from buckler.data import manifest, pictures
from buckler.models import checkpoint, vgg
from buckler.models.classifier import Classifier
from tests import projects, screenings

pytestmark = pytest.mark.slow

SIZE, COUNT = 32, 24
LENIENT = replace(
    projects.POLICY,
    min_clean_accuracy=0.0,
    min_robust_accuracy={1: 0.0},
    min_malignant_recall=0.0,
    min_robust_sensitivity={},
    min_robust_specificity={},
    min_subgroup_clean_accuracy=0.0,
    min_subgroup_robust_accuracy={},
)
SETTINGS = """
watch: {{reevaluate_cron: "17 3 * * *", jitter_seconds: 0, misfire_grace_seconds: 60, attack: fgsm,
  epsilon_255: [1, 8], steps: 1, images: 16, seed: 7, host: 127.0.0.1, port: 9108}}
publish: {{experiment: {name}, model_name: {name}}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project directory with an untrained network, a detector and test pictures; copied by each test."""
    root = tmp_path_factory.mktemp("made")
    generator = np.random.default_rng(7)
    projects.write_splits(root, SIZE, COUNT, generator)
    base = vgg.build_base(SIZE, "none", seed=7)
    network = vgg.join(base, vgg.build_head(int(np.prod(base.output_shape[1:])), 2, vgg.Head((8,)), seed=7))
    info = checkpoint.ModelInfo(projects.LABELS, ("malignant",), SIZE, pictures.version(root / "data/splits"))
    checkpoint.save(network, info, root / "models/classifier")
    noise = generator.uniform(size=(COUNT, SIZE, SIZE, 3)).astype(np.float32)
    screenings.fit(Classifier(network), noise, np.arange(COUNT) % 2).save(root / "models/detector")
    projects.write_reports(root / "reports", signing.directory_digest(root / "models/classifier"), 80, 40)
    return root


@pytest.fixture
def champion(made, project, registry, monkeypatch):
    """Publish and promote the model under a policy; return the name in the registry."""
    for part in ("models", "reports", "data"):
        shutil.rmtree(project / part, ignore_errors=True)
        shutil.copytree(made / part, project / part)
    (project / "params.yaml").write_text(SETTINGS.format(name=registry))
    signing.generate_key_pair(signing.KEY_DIR)

    def promoted(policy):
        verdict = projects.build(project, policy=policy, name=registry, key=signing.load_private_key())
        publishing.publish(
            project / "models/release",
            project / "reports",
            names=release.PublishParams(registry, registry),
            parameters={},
            source=release.Source(None, False),
            verdict=verdict,
        )
        promotion.promote(registry, signing.load_private_key())
        return registry

    return promoted


def test_the_champion_is_attacked_again_reported_and_recorded(champion):
    name = champion(LENIENT)
    run = watch.run_once("reevaluate")
    assert run.outcome == "passed", run.message
    state = json.loads((watch.STATE / "reevaluate.json").read_text())
    assert state["model"]["name"] == name
    assert state["model"]["version"] == "1"
    assert state["images"] == 16
    assert state["floors"] == {"1": 0.0}
    assert [(cell["attack"], cell["epsilon_255"]) for cell in state["cells"]] == [("fgsm", 1), ("fgsm", 8)]
    # An untrained network guesses: the confusion counts say that each picture was really scored.
    assert all(np.sum(cell["confusion"]) == 16 for cell in state["cells"])
    for cell in state["cells"]:
        assert cell["robust_accuracy"]["value"] <= state["clean_accuracy"]["value"]
    (recorded,) = mlflow.search_runs(
        experiment_names=[name], filter_string="tags.job = 'reevaluate'", output_format="list"
    )
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics["clean_accuracy"] == state["clean_accuracy"]["value"]


def test_a_floor_that_no_longer_holds_is_a_failed_gate(champion, project):
    # The reports the gate saw promised more than this untrained model keeps.
    champion(replace(LENIENT, min_clean_accuracy=0.79, min_robust_accuracy={1: 0.4}))
    run = watch.run_once("reevaluate")
    assert run.outcome == "failed", run.message
    assert "lies below" in run.message
    assert not json.loads((watch.STATE / "reevaluate.json").read_text())["passed"]


def test_other_data_than_the_models_stop_the_job_with_the_next_step(champion, project):
    champion(LENIENT)
    frame = manifest.read(project / "data/splits/train.csv")
    manifest.write(frame[1:], project / "data/splits/train.csv")
    run = watch.run_once("reevaluate")
    assert run.outcome == "error"
    assert "dvc checkout" in run.message


def test_without_a_champion_the_job_says_what_to_do(project, registry):
    (project / "params.yaml").write_text(SETTINGS.format(name=registry))
    run = watch.run_once("reevaluate")
    assert run.outcome == "error"
    assert "buckler promote" in run.message


def test_mlflow_loads_the_champion_and_gets_probabilities(champion):
    name = champion(LENIENT)
    model = mlflow.pyfunc.load_model(f"models:/{name}@{tracking.CHAMPION}")
    pixels = np.random.default_rng(1).uniform(size=(3, SIZE, SIZE, 3)).astype(np.float32)
    shares = model.predict(pixels)
    assert shares.shape == (3, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
