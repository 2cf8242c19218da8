import json

import mlflow
import pytest
from mlflow import MlflowClient

from buckler import params
from buckler.errors import VerdictError
from buckler.evaluation import reports
from buckler.release.publish import tracking
from buckler.release.settings import PublishParams
from buckler.serving.registry import DIGEST_TAG, OUTCOME_TAG, VERDICT_TAG, Registry
from buckler.state import timings
from buckler.trust import digests, keys
from buckler.trust.verdict import open_release
from pipelines import gate, publish
from tests import projects

pytestmark = pytest.mark.slow


@pytest.fixture
def names(registry, project):
    """A gated project, ready to be published under test names."""
    (project / "params.yaml").write_text("train: {epochs: 3, hidden: [8, 4]}\nprofiles: {demo: {}}\n")
    (project / "dvc.lock").write_text("schema: '2.0'\n")
    names = PublishParams(experiment=registry, model_name=registry, intended_use="Sorting pictures for a test.")
    gate.run(projects.POLICY, names)
    return names


@pytest.fixture
def client(names, mlflow_database):
    return MlflowClient(mlflow_database)  # not what an earlier test pointed MLflow to


def runs_of(client, names):
    experiment = client.get_experiment_by_name(names.experiment)
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in runs if run not in parents]


def test_a_run_has_parameters_metrics_with_history_plots_and_tags(names, client):
    publish.run(names)
    ((parent,), _) = runs_of(client, names)
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"train.epochs": "3", "train.hidden": "[8, 4]"}
    assert parent.data.metrics["clean_accuracy"] == 0.8
    assert parent.data.tags["data_version"] == "sha256:data"
    assert parent.data.tags["defence"] == "none"
    assert parent.data.tags["git_commit"] == "none"
    assert parent.data.tags["dvc_lock"].startswith("sha256:")
    assert parent.data.tags[OUTCOME_TAG] == "passed"
    curve = client.get_metric_history(parent.info.run_id, "training_val_accuracy")
    assert [(point.step, point.value) for point in curve] == [(1, 0.6), (2, 0.7), (3, 0.8)]
    radii = client.get_metric_history(parent.info.run_id, "fgsm_robust_accuracy")
    assert [(point.step, point.value) for point in radii] == [(1, 0.4), (2, 0.39)]
    stored = {file.path for file in client.list_artifacts(parent.info.run_id, "plots")}
    assert stored == {"plots/confusion.png"}
    reports = {file.path for file in client.list_artifacts(parent.info.run_id, "reports")}
    assert {"reports/robustness.json", "reports/gate.json", "reports/outcomes.csv"} <= reports


def test_each_attack_cell_is_a_nested_run_with_its_parameters_and_results(names, client):
    publish.run(names)
    ((parent,), cells) = runs_of(client, names)
    assert {cell.data.tags["mlflow.parentRunId"] for cell in cells} == {parent.info.run_id}
    found = {cell.data.params["radius"]: cell for cell in cells}
    assert set(found) == {"1/255", "2/255"}
    assert found["1/255"].data.params["attack"] == "fgsm"
    assert found["1/255"].data.params["norm"] == "linf"
    metrics = found["1/255"].data.metrics
    assert metrics["robust_accuracy_low"] < metrics["robust_accuracy"] == 0.4 < metrics["robust_accuracy_high"]
    assert metrics["malignant_to_benign_rate"] == 0.6


def test_the_seconds_of_stages_and_attacks_are_metrics(names, client, project):
    timings.record_stage(project / "reports", "attack", 61.0, "a processor")
    timings.record_attacks(project / "reports", {"fgsm@1/255": 12.5})
    publish.run(names)
    ((parent,), cells) = runs_of(client, names)
    assert parent.data.metrics["stage_attack_seconds"] == 61.0
    seconds = {cell.data.params["radius"]: cell.data.metrics.get("seconds") for cell in cells}
    assert seconds == {"1/255": 12.5, "2/255": None}


def test_the_version_is_the_challenger_with_signature_example_and_description(names, client, project):
    publish.run(names)
    version = client.get_model_version_by_alias(names.model_name, "challenger")
    verdict = open_release(project / "models/release", keys.load_public_keys())
    assert version.tags[VERDICT_TAG] == verdict.id
    assert version.tags[DIGEST_TAG] == verdict.subject_digest
    assert verdict.id in version.description
    assert "What not to expect" in version.description
    run = client.get_run(version.run_id)
    assert run.data.tags["mlflow.note.content"] == version.description
    model = mlflow.models.get_model_info(f"models:/{names.model_name}@challenger")
    assert model.run_id == version.run_id
    assert model.signature.inputs.inputs[0].shape == (-1, 32, 32, 3)
    assert model.signature.outputs.inputs[0].shape == (-1, 2)
    assert model.saved_input_example_info is not None
    written = json.loads((project / "reports/publish.json").read_text())
    assert written["run_id"] == version.run_id
    assert written["version"] == str(version.version)


def test_the_release_comes_back_from_the_registry_byte_for_byte(names, project):
    publish.run(names)
    fetched = Registry(names.model_name).download("1", project / "fetched")
    assert digests.file_digests(fetched) == digests.file_digests(project / "models/release")


def test_publishing_twice_makes_neither_a_second_version_nor_a_second_run(names, client, capsys):
    publish.run(names)
    publish.run(names)
    parents, cells = runs_of(client, names)
    assert (len(parents), len(cells)) == (1, 2)
    assert len(Registry(names.model_name).versions()) == 1
    assert "already registered as version 1" in capsys.readouterr().out


def test_a_new_verdict_on_the_same_model_is_a_new_version(names, project):
    publish.run(names)
    reports.write(projects.validation().model_copy(update={"ingested": 101}), project / "reports")
    gate.run(projects.POLICY, names)
    publish.run(names)
    first, second = Registry(names.model_name).versions()
    assert first.digest == second.digest
    assert first.verdict != second.verdict
    assert Registry(names.model_name).by_alias("challenger") == second


def test_a_killed_publication_resumes_without_a_second_run(names, client, monkeypatch):
    def killed(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "log_release", killed)
        with pytest.raises(KeyboardInterrupt):
            publish.run(names)
    assert Registry(names.model_name).versions() == []
    publish.run(names)
    parents, cells = runs_of(client, names)
    assert (len(parents), len(cells)) == (1, 2)
    assert [version.version for version in Registry(names.model_name).versions()] == ["1"]


def test_a_model_that_failed_its_gate_is_recorded_as_such(names, client, project):
    projects.make_project(project, clean=60)
    gate.run(projects.POLICY, names)
    publish.run(names)
    version = client.get_model_version_by_alias(names.model_name, "challenger")
    assert version.tags[OUTCOME_TAG] == "failed"
    assert "clean accuracy 0.600 < 0.700" in version.description


def test_a_release_that_was_changed_after_the_gate_is_not_published(names, project):
    (project / "models/release/model/classifier.keras").write_bytes(b"other")
    with pytest.raises(VerdictError, match="differ from the digests in the verdict"):
        publish.run(names)
    assert Registry(names.model_name).versions() == []


def test_the_stage_reads_its_section_of_params():
    assert params.load("publish", PublishParams).model_name
