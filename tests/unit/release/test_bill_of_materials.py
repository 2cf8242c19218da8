"""The bill of materials of a release is valid CycloneDX and says what the release contains."""

import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from buckler.measurements.stated import Measured
from buckler.models.info import load_info, save_info
from buckler.release import bill_of_materials
from buckler.release.packages import Package, of_project
from buckler.trust.digests import directory_digest, file_digest
from buckler.trust.verdict import Source
from tests import projects

ROOT = Path(__file__).resolve().parents[3]
WHEEL, ARCHIVE = f"sha256:{'ab' * 32}", f"sha256:{'cd' * 32}"
PACKAGES = (
    Package("keras", "3.10.0", (WHEEL, ARCHIVE), ("buckler",)),
    Package("numpy", "2.1.3", (WHEEL,), ("buckler", "keras")),
)


def built(project: Path, **options: object) -> dict:
    projects.build(project, **{"packages": PACKAGES, **options})
    return json.loads((project / "models/release/evidence/bom.cdx.json").read_text())


def components(bill: dict, kind: str) -> list[dict]:
    return [each for each in bill["components"] if each["type"] == kind]


def start_from(project: Path, weights: str | None) -> None:
    """State what the training of the project's model started from."""
    describe(project, initial_weights=weights)


def describe(project: Path, **facts: object) -> None:
    """State other ``facts`` of the project's model."""
    classifier = project / "models/classifier"
    save_info(replace(load_info(classifier), **facts), classifier)
    projects.write_reports(
        project / "reports", directory_digest(classifier), 80, 40, runtime=directory_digest(project / "models/runtime")
    )


def problems(bill: dict) -> list[str]:
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill), all_errors=True)
    return [str(error) for error in errors or ()]


@pytest.mark.parametrize("weights", [None, "none", f"md5:{'0' * 32}", f"sha256:{'0' * 64}"])
def test_it_is_valid_by_cyclonedx_own_schema(project, weights):
    start_from(project, weights)
    assert problems(built(project)) == []
    assert problems(built(project, source=Source(None, False), packages=())) == []


def test_the_schema_refuses_a_document_of_another_form(project):
    bill = built(project)
    bill["metadata"]["component"]["type"] = "machine-dreaming-model"
    assert problems(bill)


def test_the_projects_own_lock_gives_a_valid_document(project):
    bill = built(project, packages=of_project(ROOT / "requirements.lock"))
    assert problems(bill) == []
    assert "tensorflow-cpu" in {each["name"] for each in components(bill, "library")}


def test_it_is_evidence_that_the_verdict_signs(project):
    verdict = projects.build(project)
    path = project / "models/release/evidence" / bill_of_materials.FILE
    assert verdict.evidence[bill_of_materials.FILE] == file_digest(path)


def test_the_model_is_the_released_one_with_every_file(project):
    verdict = projects.build(project)
    model = built(project)["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == (
        "machine-learning-model",
        verdict.model_name,
        verdict.subject_digest,
    )
    hashes = {each["name"]: each["hashes"] for each in model["components"]}
    assert hashes == {
        f"model/{name}": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]
        for name, digest in verdict.files.items()
    }


def test_the_card_has_network_data_results_and_limits(project):
    card = built(project)["metadata"]["component"]["modelCard"]
    assert card["modelParameters"]["task"] == "classification: benign, malignant"
    assert card["modelParameters"]["modelArchitecture"] == "tiny"
    assert card["modelParameters"]["datasets"] == [{"ref": "data"}]
    assert card["considerations"]["useCases"] == [
        "To support a clinician who judges which of these a picture shows: benign, malignant."
    ]
    limits = "\n".join(card["considerations"]["technicalLimitations"])
    assert "at most 1/255 per value" in limits
    assert "without a defence" in limits


def test_the_results_are_those_of_the_verdict(project):
    measured = Measured.read(projects.build(project).measured)
    metrics = built(project)["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    found = {(each["type"], each.get("slice")): each for each in metrics}
    assert len(found) == len(metrics)
    accuracy = measured.clean_accuracy
    assert found["accuracy", None] == {
        "type": "accuracy",
        "value": str(accuracy.value),
        "confidenceInterval": {"lowerBound": str(accuracy.low), "upperBound": str(accuracy.high)},
    }
    low, high = map(str, measured.roc_auc_interval)
    assert found["roc_auc", None] == {
        "type": "roc_auc",
        "value": str(measured.roc_auc),
        "confidenceInterval": {"lowerBound": low, "upperBound": high},
    }
    assert float(found["balanced_accuracy", None]["value"]) == measured.balanced_accuracy.value
    worst = "worst case of all attacks, at most 1/255"
    assert found["robust_accuracy", worst]["value"] == str(measured.worst_case[0].robust_accuracy.value)
    assert {"sensitivity", "specificity"} <= {name for name, under in found if under == worst}
    for cell in measured.attacks:
        under = f"{cell.name}, {cell.radius}"
        assert found["robust_accuracy", under]["value"] == str(cell.robust_accuracy.value)


def test_it_names_data_commit_and_initial_weights(project):
    start_from(project, f"md5:{'0' * 32}")
    bill = built(project, source=Source("a" * 40, True))
    (data,) = components(bill, "data")
    assert data["version"] == load_info(project / "models/classifier").data_version
    (code,) = components(bill, "application")
    assert code["pedigree"] == {"commits": [{"uid": "a" * 40}], "notes": "with uncommitted changes"}
    (weights,) = components(bill, "machine-learning-model")
    assert weights["hashes"] == [{"alg": "MD5", "content": "0" * 32}]
    assert bill["dependencies"][0] == {"ref": "model", "dependsOn": ["data", "code", "initial-weights"]}


def test_it_names_the_restoration_step(project):
    describe(project, restore="tv")
    properties = built(project)["metadata"]["component"]["properties"]
    assert {"name": "buckler:restoration", "value": "tv"} in properties


@pytest.mark.parametrize("weights", [None, "none"])
def test_random_or_unknown_initial_weights_are_no_component(project, weights):
    start_from(project, weights)
    assert components(built(project), "machine-learning-model") == []


def test_the_verdict_states_the_initial_weights_of_the_model(project):
    start_from(project, "none")
    assert projects.build(project).source == Source("0" * 40, False, initial_weights="none")


def test_it_lists_packages_with_hashes_and_who_needs_them(project):
    bill = built(project)
    keras, numpy = components(bill, "library")
    assert (keras["name"], keras["version"], keras["purl"]) == ("keras", "3.10.0", "pkg:pypi/keras@3.10.0")
    (files,) = keras["externalReferences"]
    assert [each["content"] for each in files["hashes"]] == ["ab" * 32, "cd" * 32]
    assert {each["ref"]: each["dependsOn"] for each in bill["dependencies"][1:]} == {
        "code": [keras["bom-ref"], numpy["bom-ref"]],
        keras["bom-ref"]: [numpy["bom-ref"]],
    }


def test_the_same_release_gives_the_same_bytes_and_another_a_new_serial_number(project):
    path = project / "models/release/evidence/bom.cdx.json"
    first, before = built(project), path.read_bytes()
    assert built(project) == first
    assert path.read_bytes() == before
    assert "timestamp" not in before.decode()
    other = built(project, source=Source("b" * 40, False))
    assert uuid.UUID(first["serialNumber"]) != uuid.UUID(other["serialNumber"])


def test_it_names_the_statements_about_vulnerabilities_by_a_path_that_exists(project):
    (code,) = components(built(project), "application")
    (vex,) = code["externalReferences"]
    assert vex["type"] == "exploitability-statement"
    assert (ROOT / vex["url"]).is_file()
    assert "hashes" not in vex  # the statements change after the release


def test_the_packages_have_the_purls_of_the_statements_about_them(project):
    locked = of_project(ROOT / "requirements.lock")
    listed = {each["bom-ref"]: each["purl"] for each in components(built(project, packages=locked), "library")}
    stated = json.loads((ROOT / "infra/vex.json").read_text())["components"]
    assert stated
    assert {each["bom-ref"]: each["purl"] for each in stated}.items() <= listed.items()
