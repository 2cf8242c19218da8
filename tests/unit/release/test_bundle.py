import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from buckler.errors import BucklerError, DataError
from buckler.evaluation import reports
from buckler.evaluation.statistics import wilson
from buckler.release import bundle, evidence
from buckler.trust.verdict import Source, verify_release
from tests import projects


def test_a_release_is_valid_and_its_verdict_has_the_fields_for_a_reviewer(project):
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    projects.build(project, now=now)
    verdict = verify_release(project / "models/release", projects.PUBLIC, now=now)
    assert verdict.model_name == "skin-lesion"
    assert set(verdict.files) == {
        "classifier.keras",
        "model.json",
        "detector.npz",
        "detector.json",
    }
    assert verdict.measured["data"] == {
        "version": "sha256:data",
        "images": 100,
        "ids_sha256": "0" * 64,
        "source": None,
    }
    assert verdict.source == Source("0" * 40, False)
    attacks = verdict.measured["attacks"]
    assert [cell["radius"] for cell in attacks] == ["1/255", "2/255"]
    assert attacks[0]["robust_accuracy"]["value"] == wilson(40, 100).value
    assert attacks[0]["steps"] == 1
    assert verdict.measured["checks"][0]["name"] == "gradients_not_zero"
    assert verdict.reasons == ()
    assert bundle.policy_of(verdict) == projects.POLICY
    assert verdict.expires_at - verdict.issued_at == timedelta(days=30)


def test_a_failed_model_is_released_with_a_signed_failed_verdict(project):
    projects.make_project(project, clean=60, robust=10)
    verdict = projects.build(project)
    assert not verdict.passed
    assert len(verdict.reasons) == 2
    with pytest.raises(BucklerError, match=r"clean accuracy 0\.600 < 0\.700"):
        verify_release(project / "models/release", projects.PUBLIC)


def test_the_evidence_in_a_release_equals_the_reports(project):
    projects.build(project)
    assert evidence.read_reports(project / "models/release/evidence") == evidence.read_reports(project / "reports")


def test_the_exported_network_is_signed_and_the_verdict_states_its_parity(project):
    verdict = projects.build(project, runtime=project / "models/runtime")
    assert "runtime.json" in verdict.files
    assert verdict.measured["runtime"]["serves"] == "float32"
    assert any(note.startswith("int8 is not used, which costs only speed: ") for note in verdict.notes)


@pytest.mark.parametrize("name", ["runtime", "evaluation", "robustness", "decisions"])
def test_reports_about_another_exported_network_are_refused_as_stale(project, name):
    path = project / f"reports/{name}.json"
    document = json.loads(path.read_text())
    document["model"]["runtime"] = "sha256:other"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"reports/{name}\.json is about runtime sha256:other.*stale"):
        projects.build(project, runtime=project / "models/runtime")


@pytest.mark.parametrize("name", ["evaluation", "robustness", "decisions"])
def test_reports_about_another_classifier_are_refused_as_stale(project, name):
    path = project / f"reports/{name}.json"
    document = json.loads(path.read_text())
    document["model"]["digest"] = "sha256:other"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"reports/{name}\.json is about classifier sha256:other.*stale"):
        projects.build(project)
    assert not (project / "models/release").exists()


@pytest.mark.parametrize(
    "name", ["evaluation.json", "robustness.json", "detector.json", "validation.json", "outcomes.csv"]
)
def test_a_missing_report_is_named(project, name):
    (project / "reports" / name).unlink()
    with pytest.raises(DataError, match=rf"no .*{name}; run `dvc repro`"):
        projects.build(project)


def test_a_release_without_measured_decisions_fails_its_gate(project):
    (project / "reports/decisions.json").unlink()
    verdict = projects.build(project)
    assert verdict.reasons == ("share of accepted misses was not measured, expected at most 0.050",)
    assert verdict.measured["decisions"] is None
    assert "decisions.json" not in verdict.evidence


def test_a_release_that_accepts_too_many_dangerous_pictures_fails_its_gate(project):
    found = evidence.read_reports(project / "reports").decisions
    reports.write(projects.decisions(found.model, accepted=9), project / "reports")
    (reason,) = projects.build(project).reasons
    assert reason == "share of accepted misses 0.180 > 0.050 (95 % interval 0.098 to 0.308)"


def test_the_verdict_states_decisions_and_the_reliability_of_the_served_probabilities(project):
    verdict = projects.build(project)
    found = evidence.read_reports(project / "reports").decisions.document()
    assert "decisions.json" in verdict.evidence
    assert verdict.measured["calibration_error"] == found["calibration_error"]
    assert verdict.measured["reliability"] == found["reliability"]
    assert verdict.measured["decisions"] == {name: found[name] for name in verdict.measured["decisions"]}


def test_a_failed_build_leaves_the_earlier_release_unchanged(project):
    before = projects.build(project)
    (project / "reports/detector.json").write_text("{}")
    with pytest.raises(DataError):
        projects.build(project)
    assert verify_release(project / "models/release", projects.PUBLIC) == before
    assert {path.name for path in (project / "models").iterdir()} == {"classifier", "runtime", "detector", "release"}


def test_a_new_build_replaces_the_whole_earlier_release(project):
    projects.build(project)
    (project / "models/release/model/left-over").touch()
    projects.build(project)
    verify_release(project / "models/release", projects.PUBLIC)


def test_files_of_the_same_name_in_both_parts_are_refused(project):
    (project / "models/detector/model.json").write_text("{}")
    with pytest.raises(DataError, match=r"model\.json"):
        projects.build(project)


@pytest.mark.parametrize("content", ["id,label,clean\na,benign,2\n", "id,label,clean\na,b,1\na,b,1\n", "id\na\n"])
def test_an_invalid_table_of_outcomes_is_rejected(tmp_path, content):
    (tmp_path / "outcomes.csv").write_text(content)
    with pytest.raises(DataError, match="0 or 1"):
        evidence.read_outcomes(tmp_path / "outcomes.csv")


def test_the_source_is_the_commit_and_whether_tracked_files_changed(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    assert bundle.source_of(tmp_path).commit is None
    git("init", "-q")
    (tmp_path / "docs").mkdir()
    for name in ("code.py", "dvc.lock", "docs/page.md"):
        (tmp_path / name).write_text("before")
    git("add", ".")
    git("commit", "-qm", "first")
    clean = bundle.source_of(tmp_path)
    assert len(clean.commit) == 40
    assert not clean.dirty
    (tmp_path / "dvc.lock").write_text("a new result")
    (tmp_path / "docs/page.md").write_text("a new table")
    (tmp_path / "untracked").touch()
    assert bundle.source_of(tmp_path) == clean
    (tmp_path / "code.py").write_text("after")
    assert bundle.source_of(tmp_path).dirty


def test_a_verdict_is_described_for_people(project):
    text = bundle.describe(projects.build(project))
    assert "passed" in text
    assert "80.0%" in text
    assert "<= 1/255" in text
