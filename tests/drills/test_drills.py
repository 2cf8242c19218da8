"""Drills: their results and tables, and two drills on a real service and registry."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from buckler.release.bundle import as_json
from buckler.trust import digests
from drills import __main__, report
from drills.registry import DrillError, ReleaseBuilder
from tests import projects
from tests.forms import square


def test_a_drill_passes_if_no_requirement_failed_and_its_last_result_is_reported(tmp_path):
    good, bad = report.Drill("good", {"seconds": 1.5}), report.Drill("bad")
    good.require(True, "not reported")
    bad.require(False, "3 requests failed")
    report.write([good, bad], tmp_path / "reports/drills.json", {"commit": "a"})
    report.write([report.Drill("bad")], tmp_path / "reports/drills.json", {"commit": "b"})
    assert json.loads((tmp_path / "reports/drills.json").read_text()) == {
        "drills": [
            {"name": "good", "passed": True, "figures": {"seconds": 1.5}, "failures": [], "commit": "a"},
            {"name": "bad", "passed": True, "figures": {}, "failures": [], "commit": "b"},
        ]
    }
    assert bad.as_json()["failures"] == ["3 requests failed"]


def test_the_table_has_a_row_for_each_figure_and_names_the_drill_once():
    drill = report.Drill("kill_worker", {"seconds_until_back": [2.0, 2.5], "failed": 0})
    assert report.table([drill]).rows == (
        {"drill": "kill worker", "passed": True, "figure": "seconds until back", "value": "[2.0, 2.5]"},
        {"drill": "", "passed": None, "figure": "failed", "value": 0},
    )


def test_attacks_have_a_table_of_their_own_that_says_who_stopped_them():
    drill = report.Drill("store_writer")
    assert list(report.tables([drill])) == ["figures"]
    drill.attacks.append(report.Attack("truncates the weights", "service", "digest", 1.2))
    drill.attacks.append(report.Attack("repeats an answer", "", "accepted"))
    assert drill.as_json()["attacks"][1] == {
        "name": "repeats an answer",
        "stopped_by": "",
        "code": "accepted",
        "seconds": None,
    }
    assert report.tables([drill])["attacks"].rows == (
        {
            "drill": "store writer",
            "attack": "truncates the weights",
            "stopped_by": "service",
            "code": "digest",
            "seconds": 1.2,
        },
        {"drill": "", "attack": "repeats an answer", "stopped_by": "nobody", "code": "accepted", "seconds": None},
    )


def test_a_project_whose_pipeline_has_not_run_is_an_error_that_names_the_command(tmp_path):
    with pytest.raises(DrillError, match="make demo"):
        ReleaseBuilder(tmp_path, tmp_path / "scratch")


@pytest.fixture
def trained(project: Path) -> Path:
    """A project with a real, small model and reports that pass the gate."""
    from buckler.models.networks.base import HeadShape
    from buckler.models.networks.tiny import TINY
    from tests.unit.serving.test_selftest import save

    shutil.rmtree(project / "models")
    network = TINY.build(square(32), 2, head=HeadShape((16, 8)), seed=1)
    save(network, project / "models/classifier")
    (project / "models/detector").mkdir()
    for name in ("detector.npz", "detector.json"):
        (project / "models/classifier" / name).rename(project / "models/detector" / name)
    projects.write_reports(project / "reports", digests.directory_digest(project / "models/classifier"), 80, 40)
    policy = as_json(projects.POLICY)
    numbers = {
        name: {int(key) if key.isdecimal() else key: each for key, each in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in policy.items()
    }
    (project / "params.yaml").write_text(yaml.safe_dump({"gate": numbers}))
    return project


@pytest.mark.slow
def test_drills_run_on_the_projects_model_and_write_their_figures(trained, capsys):
    arguments = ["--short", "--only", "kill_promotion", "--only", "swap", "--project", str(trained)]
    assert __main__.main([*arguments, "--report", "reports/drills-service.json"]) == 0
    kills, swap = json.loads((trained / "reports/drills-service.json").read_text())["drills"]
    assert (kills["name"], kills["passed"], kills["figures"]["kills"]) == ("kill_promotion", True, 4)
    assert sum(kills["figures"]["states_seen"].values()) == 4
    assert set(kills["figures"]["states_seen"]) <= {"old", "new"}
    assert (swap["passed"], swap["figures"]["failed"], swap["figures"]["roll_backs_from_memory"]) == (True, 0, 2)
    assert "cores" in swap["machine"]
    assert "2 of 2 passed" in capsys.readouterr().out


@pytest.mark.slow
def test_a_drill_of_an_attacker_says_who_stopped_each_attack(trained):
    arguments = ["--suite", "trust", "--short", "--only", "insider", "--project", str(trained)]
    assert __main__.main([*arguments, "--report", "reports/drills-trust.json"]) == 0
    (drill,) = json.loads((trained / "reports/drills-trust.json").read_text())["drills"]
    assert drill["figures"]["failed"] == 0
    found = {attack["name"]: (attack["stopped_by"], attack["code"]) for attack in drill["attacks"]}
    assert found["signs a promotion with the verdict key"] == ("service", "not_promoted")
    assert found["uses a stolen key after it was revoked"] == ("service", "401 key_unknown")
    # As the threat model says, one attack succeeds.
    assert [name for name, (by, _) in found.items() if not by] == [
        "promotes a version that loses the comparison, with the promotion key"
    ]
