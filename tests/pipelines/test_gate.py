import json

import pytest

from buckler.errors import BucklerError
from buckler.release.settings import PublishParams
from buckler.state import paths
from buckler.trust import keys
from buckler.trust.verdict import open_release, verify_release
from pipelines import gate
from tests import projects

NAMES = PublishParams("buckler", "skin-lesion", "Sorting pictures for a test.")


def test_the_stage_makes_a_key_pair_signs_and_reports(project, capsys):
    gate.run(projects.POLICY, NAMES)
    said = capsys.readouterr().out
    assert "made key pairs" in said
    verdict = verify_release(project / "models/release", keys.load_public_keys())
    report = json.loads((project / "reports/gate.json").read_text())
    assert report["passed"]
    assert report["reasons"] == []
    assert report["challenger"] == verdict.subject_digest
    assert report["champion"] is None
    assert report["policy"]["min_robust_accuracy"] == {"1/255": 0.3}
    assert (verdict.model_name, verdict.model.intended_use) == (NAMES.model_name, NAMES.intended_use)


def test_the_headline_is_flat_so_that_runs_compare(project):
    gate.run(projects.POLICY, NAMES)
    numbers = json.loads((project / "reports/metrics.json").read_text())
    assert numbers["clean_accuracy"] == 0.8
    assert numbers["worst_case_1"] == numbers["fgsm_1"] == 0.4
    assert numbers["fgsm_2"] == 0.39
    assert numbers["gate_passed"] is True
    assert all(isinstance(value, (int, float)) for value in numbers.values())


def test_a_failing_model_is_signed_as_failing_and_the_reasons_are_printed(project, capsys):
    projects.make_project(project, clean=60)
    gate.run(projects.POLICY, NAMES)
    said = capsys.readouterr().out
    assert "clean accuracy 0.600 < 0.700" in said
    assert "the gate FAILED" in said
    assert not json.loads((project / "reports/gate.json").read_text())["passed"]
    assert not open_release(project / "models/release", keys.load_public_keys()).passed


def test_a_second_run_uses_the_same_key(project, capsys):
    gate.run(projects.POLICY, NAMES)
    key = keys.PUBLIC_KEY_FILE
    before = (paths.KEYS / key).read_bytes()
    capsys.readouterr()
    gate.run(projects.POLICY, NAMES)
    assert (paths.KEYS / key).read_bytes() == before
    assert "key pair" not in capsys.readouterr().out


def test_a_signing_key_that_is_named_but_missing_stops_the_stage(project, monkeypatch):
    monkeypatch.setenv("BUCKLER_SIGNING_KEY", "gone.pem")
    with pytest.raises(BucklerError, match=r"gone\.pem"):
        gate.run(projects.POLICY, NAMES)
    assert not (project / "models/release").exists()
