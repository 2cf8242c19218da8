"""Reports: written and read back, of earlier schemas, damaged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from buckler.errors import DataError
from buckler.evaluation import reports
from buckler.evaluation.reports import (
    DetectorReport,
    EvaluationReport,
    GateReport,
    RobustnessReport,
    RuntimeReport,
    SplitReport,
    ValidationReport,
)
from tests import projects

# Of version 0.1.0 before reports had types, made by `dvc repro`; decisions.json is of the first version that had it.
EARLIER = Path(__file__).parent / "earlier_reports"
KINDS = pytest.mark.parametrize("kind", reports.REPORTS, ids=lambda kind: kind.FILE)


@KINDS
def test_a_report_of_an_earlier_version_is_readable_and_survives_a_round_trip(kind, tmp_path):
    earlier = reports.read(kind, EARLIER)
    reports.write(earlier, tmp_path)
    assert reports.read(kind, tmp_path) == earlier
    assert json.loads((tmp_path / kind.FILE).read_text())["schema"] == kind.SCHEMA


def test_the_numbers_of_earlier_reports_are_kept():
    written = {kind: json.loads((EARLIER / kind.FILE).read_text()) for kind in reports.REPORTS}
    evaluation, detector = reports.read(EvaluationReport, EARLIER), reports.read(DetectorReport, EARLIER)
    assert evaluation.scored_in == written[EvaluationReport]["model"]["scored_in"]
    assert evaluation.model.digest == detector.model.digest == written[DetectorReport]["model"]["classifier"]
    assert detector.model.detector == written[DetectorReport]["model"]["detector"]
    robustness = reports.read(RobustnessReport, EARLIER)
    rates = [cell["robust_accuracy"]["value"] for cell in written[RobustnessReport]["cells"]]
    assert [cell.robust_accuracy.value for cell in robustness.cells] == rates
    assert reports.read(RuntimeReport, EARLIER).precisions["float32"].label_agreement == 1.0
    validation = reports.read(ValidationReport, EARLIER)
    hard = [each["name"] for each in written[ValidationReport]["expectations"] if each["hard"]]
    assert [each.name for each in validation.expectations if each.severity == "critical"] == hard
    assert reports.read(SplitReport, EARLIER).data == validation.data
    assert reports.read(GateReport, EARLIER).passed


@KINDS
@pytest.mark.parametrize("schema", [None, 0, 99, "1", [], True])
def test_an_unknown_schema_is_one_clear_error(kind, schema, tmp_path):
    document = json.loads((EARLIER / kind.FILE).read_text()) | {"schema": schema}
    (tmp_path / kind.FILE).write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"{kind.FILE}: expected schema [0-9]( or [0-9])*, got .*; run `dvc repro`"):
        reports.read(kind, tmp_path)


@KINDS
def test_a_field_that_is_missing_unknown_or_of_another_type_is_named(kind, tmp_path):
    whole = reports.read(kind, EARLIER).document()
    required = {name for name, each in kind.model_fields.items() if each.is_required()}
    field = [name for name in whole if name in required][-1]
    for changed, text in (
        ({name: value for name, value in whole.items() if name != field}, f"{field}: Field required"),
        (whole | {"surprise": 1}, "surprise: Extra inputs are not permitted"),
        (whole | {field: {"a": object.__name__}}, field),
    ):
        (tmp_path / kind.FILE).write_text(json.dumps(changed))
        with pytest.raises(DataError, match=text) as error:
            reports.read(kind, tmp_path)
        assert "\n" not in str(error.value)


@KINDS
@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_a_damaged_file_is_one_clear_error(kind, content, tmp_path):
    (tmp_path / kind.FILE).write_text(content)
    with pytest.raises(DataError, match=kind.FILE):
        reports.read(kind, tmp_path)


def test_a_missing_report_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match=r"no .*robustness\.json; run `dvc repro` first"):
        reports.read(RobustnessReport, tmp_path)


def test_earlier_reports_that_lack_what_their_schema_requires_are_an_error(tmp_path):
    for kind in reports.REPORTS:
        for schema in kind.UPGRADES:
            (tmp_path / kind.FILE).write_text(json.dumps({"schema": schema}))
            with pytest.raises(DataError, match="run `dvc repro`"):
                reports.read(kind, tmp_path)


def test_no_report_contains_seconds_dates_or_host_names(tmp_path):
    projects.make_project(tmp_path)
    for path in (tmp_path / "reports").glob("*.json"):
        text = path.read_text().lower()
        assert not any(word in text for word in ("second", "finished_at", "host", "2026-"))


def test_reading_reports_loads_no_attack_and_no_network():
    code = "import sys, buckler.evaluation.reports; print(*(n for n in sys.modules if n in ('numpy', 'tensorflow')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
