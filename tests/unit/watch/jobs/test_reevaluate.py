"""The whole job, on a published and promoted tiny network, its pictures, and MLflow."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import mlflow
import numpy as np
import pytest
import yaml
from PIL import Image

from buckler import watch
from buckler.data import manifest, pictures
from buckler.errors import ParamsError
from buckler.models import checkpoint
from buckler.models.classifier import Classifier
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.release import promote
from buckler.release.assess import Assessor
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import Registry
from buckler.state import paths
from buckler.trust import digests, keys
from buckler.watch.jobs import reevaluate
from buckler.watch.settings import RecentParams
from tests import projects, screenings
from tests.forms import square
from tests.unit.watch import made as watching

pytestmark = pytest.mark.slow

SIZE, COUNT = 32, 24


def write_settings(root, name, **changes):
    """Write the sections that the job reads."""
    suite = ({"attack": "fgsm", "radii": ["1/255", "8/255"]}, {"attack": "pgd", "radii": ["1/255"], "steps": 2})
    cfg = watching.watching(records=16, suite=suite, **changes)
    sections = {"watch": watching.as_section(cfg), "publish": {"experiment": name, "model_name": name}}
    (root / "params.yaml").write_text(yaml.safe_dump(sections))
    return cfg


@pytest.fixture(scope="module")
def made(module_tmp_path):
    """A project directory with an untrained network, a detector and test pictures; copied by each test."""
    root = module_tmp_path
    generator = np.random.default_rng(7)
    projects.write_splits(root, SIZE, COUNT, generator)
    network = TINY.build(square(SIZE), 2, head=HeadShape((8,)), seed=7)
    version = pictures.version(root / "data/splits")
    info = checkpoint.ModelInfo(projects.LABELS, ("malignant",), square(SIZE), version, architecture="tiny")
    checkpoint.save(network, info, root / "models/classifier")
    noise = generator.uniform(size=(COUNT, SIZE, SIZE, 3)).astype(np.float32)
    screenings.fit(Classifier(network), noise, np.arange(COUNT) % 2).save(root / "models/detector")
    projects.write_reports(root / "reports", digests.directory_digest(root / "models/classifier"), 80, 40)
    return root


@pytest.fixture
def champion(made, project, registry, monkeypatch):
    """A function that publishes and promotes the model under a policy, and returns its name in the registry."""
    for part in ("models", "reports", "data"):
        shutil.rmtree(project / part, ignore_errors=True)
        shutil.copytree(made / part, project / part)
    write_settings(project, registry)
    keys.generate_key_pair(paths.KEYS, keys.VERDICTS, keys.PROMOTIONS)

    def promoted(policy):
        verdict = projects.build(project, policy=policy, name=registry, key=keys.load_signing_key())
        projects.publish(project, verdict, registry)
        promote.promote(WritableRegistry(registry))
        return registry

    return promoted


def test_the_champions_re_evaluation_is_reported_and_logged(champion):
    name = champion(projects.LENIENT)
    run = watch.run_once("reevaluate")
    assert run.outcome == "passed", run.message
    state = json.loads((paths.WATCH / "reevaluate.json").read_text())
    assert state["model"]["name"] == name
    assert state["model"]["version"] == "1"
    assert state["images"] == 16
    assert state["failures"] == []
    assert state["floors"] == {"1/255": 0.0}
    assert [(cell["attack"], cell["radius"]) for cell in state["measured"]["attacks"]] == [
        ("fgsm", "1/255"),
        ("fgsm", "8/255"),
        ("pgd", "1/255"),
    ]
    # Accuracies of an untrained network prove little; the confusion counts prove that each picture was scored.
    assert all(np.sum(cell["confusion"]) == 16 for cell in state["measured"]["attacks"])
    for cell in state["measured"]["attacks"]:
        assert cell["robust_accuracy"]["value"] <= state["measured"]["clean_accuracy"]["value"]
    (recorded,) = mlflow.search_runs(
        experiment_names=[name], filter_string="tags.job = 'reevaluate'", output_format="list"
    )
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics["clean_accuracy"] == state["measured"]["clean_accuracy"]["value"]


def test_a_missed_floor_fails_the_job(champion, project):
    # The reports of the release claim more than this untrained model achieves.
    champion(replace(projects.LENIENT, min_clean_accuracy=0.79, min_robust_accuracy={1: 0.4}))
    run = watch.run_once("reevaluate")
    assert run.outcome == "failed", run.message
    assert "is below" in run.message
    state = json.loads((paths.WATCH / "reevaluate.json").read_text())
    assert not state["passed"]
    assert "clean_accuracy" in state["failures"]
    assert watching.metrics()['buckler_gate_failures{reason="clean_accuracy"}'] == 1


def test_passing_renews_the_verdict_and_without_the_key_keeps_the_progress(champion, project, registry):
    name = champion(projects.LENIENT)
    cfg = write_settings(project, name)
    key = paths.KEYS / keys.PROMOTION_PRIVATE_FILE
    aside = key.rename(project / "aside.pem")
    run = watch.run_once("reevaluate", cfg=cfg)
    assert run.outcome == "error"
    assert "name it in BUCKLER_PROMOTION_SIGNING_KEY" in run.message
    assert watch.read_state("reevaluate")["passed"]  # the state is written before the renewal
    kept = sorted(paths.WATCH_JOURNAL.rglob("*"))
    assert kept

    aside.rename(key)
    run = watch.run_once("reevaluate", cfg=cfg)
    assert run.outcome == "passed"
    assert "renewed until" in run.message
    stands = Assessor(Registry(name)).champion().standing
    assert (stands.state, stands.expires_at - stands.issued_at > timedelta(days=29)) == ("holds", True)
    assert stands.moment > datetime.now(UTC) - timedelta(minutes=5)
    assert not list(paths.WATCH_JOURNAL.rglob("*.npz"))


def test_a_failure_rolls_back_to_the_champion_before(champion, project, made):
    name = champion(projects.LENIENT)
    champion(replace(projects.LENIENT, min_clean_accuracy=0.79, min_robust_accuracy={1: 0.4}))
    cfg = write_settings(project, name, policy={**dict.fromkeys(watch.JOBS, ()), "reevaluate": ("alert", "rollback")})
    run = watch.run_once("reevaluate", cfg=cfg)
    assert run.outcome == "failed"
    assert "rolled back to version 1" in run.message
    assert Registry(name).champion().version == "1"


def test_the_newest_pictures_are_evaluated_separately_without_training_pictures(champion, project):
    name = champion(projects.LENIENT)
    generator = np.random.default_rng(9)
    for label in projects.LABELS:
        (project / "new" / label).mkdir(parents=True)
        for number in range(3):
            pixels = generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(project / "new" / label / f"{number}.png")
    shutil.copy(project / "data/images/0.png", project / "new/benign/learnt.png")
    (project / "new/benign/broken.png").write_bytes(b"no picture")
    write_settings(project, name, recent=RecentParams("new", 0))
    run = watch.run_once("reevaluate")
    assert run.outcome == "passed", run.message
    assert "16 pinned and 6 newest pictures" in run.message
    state = watch.read_state("reevaluate")
    assert (state["images"], state["newest"]["images"]) == (16, 6)
    assert len(state["newest"]["measured"]["attacks"]) == len(state["measured"]["attacks"]) == 3


def test_a_missing_folder_of_newest_pictures_is_an_error(champion, project):
    write_settings(project, champion(projects.LENIENT), recent=RecentParams("nowhere", 0))
    run = watch.run_once("reevaluate")
    assert run.outcome == "error"
    assert "watch.recent.path" in run.message


def test_an_error_names_an_unknown_attack_of_the_suite(project):
    cfg = watching.watching(suite=({"attack": "magic", "radii": ["1/255"]},))
    with pytest.raises(ParamsError, match=r"watch\.suite: .*got 'magic'"):
        reevaluate.suite_of(cfg)


def test_other_data_than_the_models_are_an_error_with_the_next_step(champion, project):
    champion(projects.LENIENT)
    frame = manifest.read(project / "data/splits/train.csv")
    manifest.write(frame[1:], project / "data/splits/train.csv")
    run = watch.run_once("reevaluate")
    assert run.outcome == "error"
    assert "dvc checkout" in run.message


def test_a_missing_champion_is_an_error_with_the_next_step(project, registry):
    write_settings(project, registry)
    run = watch.run_once("reevaluate")
    assert run.outcome == "error"
    assert "buckler promote" in run.message


def test_mlflow_loads_the_champion_and_returns_probabilities(champion):
    name = champion(projects.LENIENT)
    model = mlflow.pyfunc.load_model(f"models:/{name}@{CHAMPION}")
    pixels = np.random.default_rng(1).uniform(size=(3, SIZE, SIZE, 3)).astype(np.float32)
    shares = model.predict(pixels)
    assert shares.shape == (3, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
