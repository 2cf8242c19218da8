"""The tables of decisions, collected from several networks."""

import json

import pytest

from benchmarks import accepted_misses, results
from benchmarks.tables import markdown
from buckler.errors import DataError
from buckler.evaluation import reports
from buckler.evaluation.reports import MeasuredModel
from tests import projects


def measure(monkeypatch, out, name, **changes):
    report = projects.decisions(MeasuredModel("sha256:0", "sha256:1")).model_copy(update=changes)
    reports.write(report, out / name)
    arguments = ["--report", str(out / name / "decisions.json"), "--name", name, "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["accepted_misses", *arguments])
    accepted_misses.main()
    return results.read(out / "accepted_misses.json")


def test_the_tables_show_decisions_before_and_after_and_the_calibration(tmp_path, monkeypatch, capsys):
    found = measure(monkeypatch, tmp_path, "demo")
    lines = markdown(found.tables["decisions"]).split("\n")
    assert lines[2].startswith("| demo | off | 20.0% (11.2% to 33.0%) | 3.0% (1.0% to 8.5%) |")
    assert lines[3].startswith("| demo | 0.200 | 2.0% (0.4% to 10.5%) | 12.0% (7.0% to 19.8%) |")
    assert markdown(found.tables["calibration"]).split("\n")[2] == "| demo | 93 | 1 | 95.0% | 1.50 | 0.080 | 0.050 |"
    assert found.measured.remark == "Clean test pictures of demo: 100, 50 of them dangerous."
    assert found.settings["demo"]["model"] == "sha256:0"
    assert lines[3] in capsys.readouterr().out


def test_several_networks_are_collected_and_one_that_is_measured_again_replaces_its_rows(tmp_path, monkeypatch):
    for name, temperature in (("demo", 1.5), ("hardened", 2.0), ("demo", 3.0)):
        found = measure(monkeypatch, tmp_path, name, temperature=temperature)
    assert [row["network"] for row in found.tables["decisions"].rows] == ["hardened"] * 2 + ["demo"] * 2
    temperatures = {row["network"]: row["temperature"] for row in found.tables["calibration"].rows}
    assert temperatures == {"hardened": 2.0, "demo": 3.0}
    assert set(found.settings) == {"demo", "hardened"}


def test_a_network_without_dangerous_labels_has_no_limit(tmp_path, monkeypatch):
    found = measure(monkeypatch, tmp_path, "harmless", danger=None)
    assert found.tables["decisions"].rows[1]["limit"] == "none set"
    assert found.tables["calibration"].rows[0]["pictures"] is None


def test_a_document_that_is_damaged_is_not_overwritten(tmp_path, monkeypatch):
    (tmp_path / "accepted_misses.json").write_text(json.dumps({"schema": 0}))
    with pytest.raises(DataError, match="not a document of results"):
        measure(monkeypatch, tmp_path, "demo")
