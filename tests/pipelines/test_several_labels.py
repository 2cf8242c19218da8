"""Pictures that may show two findings: from the generator, or from a table, to the gate and the service."""

import json
from pathlib import Path

import httpx
import pytest

from buckler.data import manifest
from tests.pipelines.checkout import Checkout, served
from tests.pipelines.test_classes_by_table import run, settings

LABELS = ["no_finding", "streaks", "streaks+veil", "veil"]


@pytest.fixture(scope="module")
def project(module_tmp_path: Path) -> Checkout:
    """A project whose generator draws two findings, after `dvc repro`."""
    made = Checkout(
        module_tmp_path / "project",
        **{
            "data.several_labels": True,
            "data.malignant": ["veil"],
            "data.per_class": 240,
            "train.epochs": 20,
            "gate.min_malignant_recall": 0.5,
            "gate.min_robust_sensitivity": {"1/255": 0.1},
            "gate.max_margin_of_error": 0.2,
            "publish.model_name": "findings",
        },
    )
    result = made("dvc", "repro")
    assert result.returncode == 0, result.stdout + result.stderr
    return made


@pytest.mark.slow
def test_each_finding_is_measured_clean_and_under_attack(project: Checkout):
    evaluation, robustness = project.report("evaluation.json"), project.report("robustness.json")
    assert evaluation["labels"] == LABELS
    assert robustness["malignant"] == ["streaks+veil", "veil"]
    assert set(evaluation["findings"]) == set(robustness["findings"]) == {"streaks", "veil"}
    for name, clean in evaluation["findings"].items():
        assert clean["roc_auc"] > 0.8, name
        rows = robustness["findings"][name]
        assert [row["radius"] for row in rows] == ["1/255", "2/255"]
        for row in rows:
            assert row["sensitivity"]["value"] <= clean["sensitivity"]["value"]
            assert row["specificity"]["value"] <= clean["specificity"]["value"]
    page = (project.root / "reports/robustness.html").read_text()
    assert "A picture may show several findings." in page


@pytest.mark.slow
def test_the_table_of_all_profiles_has_its_row(project: Checkout, tmp_path: Path):
    for name in ("findings", "again", "findings"):
        done = project("python", "-m", "benchmarks.modalities", "--name", name, "--out", str(tmp_path))
        assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "modalities.json").read_text())["tables"]["profiles"]["rows"]
    assert [row["profile"] for row in rows] == ["again", "findings"]
    evaluation, robustness = project.report("evaluation.json"), project.report("robustness.json")
    row, first = rows[1], robustness["worst_case"][0]
    assert (row["modality"], row["data"], row["records"], row["radii"]) == ("picture", "generator", 960, "1/255, 2/255")
    assert row["clean"]["value"] == evaluation["clean_accuracy"]["value"]
    assert row["worst_first"]["value"] == first["robust_accuracy"]["value"] <= row["fgsm"]["value"]
    reviews = project.report("decisions.json")["with_limit"]["reviews"]["value"]
    assert row["accepted"]["value"] == pytest.approx(1 - reviews)
    assert 0 < row["request"] < 1 < 60 * row["minutes"]


@pytest.mark.slow
def test_the_gate_judges_the_dangerous_finding(project: Checkout):
    gate = project.report("gate.json")
    assert gate["passed"], gate["reasons"]
    project.set(**{"gate.min_malignant_recall": 1.0, "gate.max_margin_of_error": 0.4})
    judged = project("dvc", "repro", "gate")
    project.set()
    assert "sensitivity of veil" in judged.stdout + judged.stderr + json.dumps(project.report("gate.json"))


@pytest.mark.slow
def test_the_service_answers_with_the_probability_of_each_finding(project: Checkout):
    result = project("dvc", "repro")
    assert result.returncode == 0, result.stdout + result.stderr
    promoted = project("buckler", "promote")
    assert promoted.returncode == 0, promoted.stderr
    picture = next((project.root / "data/images/streaks+veil").glob("*.png")).read_bytes()
    headers = {"content-type": "image/png"}
    with served(project) as url:
        answer = httpx.post(f"{url}/predict", content=picture, headers=headers, timeout=60).json()
        shares = answer["probabilities"]
        assert list(shares) == LABELS
        for name in ("streaks", "veil"):
            expected = shares[name] + shares["streaks+veil"]
            assert answer["findings"][name] == pytest.approx(expected, abs=1e-6)
        fhir = headers | {"accept": "application/fhir+json"}
        report = httpx.post(f"{url}/predict", content=picture, headers=fhir, timeout=60).json()
        (observed,) = [each for each in report["contained"] if each["id"] == "label"]
        assert [each["code"]["text"] for each in observed["component"]] == ["streaks", "veil"]
        card = httpx.get(f"{url}/model.html", timeout=60).text
        assert "By finding" in card


@pytest.fixture
def folder(tmp_path):
    """Pictures with a table of two findings, of which a row may have both or none."""
    from buckler.modality.table import find

    modality, folder = find("picture"), tmp_path / "pictures"
    folder.mkdir()
    rows = []
    for place, label in enumerate(LABELS):
        for index in range(40):
            name = f"{place}{index:03}.png"
            (folder / name).write_bytes(modality.to_file(modality.generate(label, index, 7, 32)))
            rows.append(f"{name},{int('streaks' in label)},{'yes' if 'veil' in label else 'no'},P{place}{index}")
    (folder / "labels.csv").write_text("\n".join(["file,streaks,haze,patient", *rows]) + "\n")
    return folder


def test_a_row_of_a_table_has_any_number_of_the_labels(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes = {"streaks": {"streaks": [1]}, "veil": {"haze": ["yes"]}}
    several = {
        "data.classes": classes,
        "data.several_labels": True,
        "data.group": "patient",
        "data.malignant": ["veil"],
    }
    splits = run(settings(folder, **several))
    assert {name: manifest.labels(frame) for name, frame in splits.items()} == dict.fromkeys(splits, LABELS)
