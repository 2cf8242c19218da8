"""The tables of a finished demo."""

import pytest

from benchmarks import heat_map, results
from benchmarks.tables import markdown
from buckler.errors import DataError
from buckler.evaluation import reports
from buckler.evaluation.reports import EvaluationReport, MeasuredModel
from buckler.evaluation.statistics import wilson
from buckler.measurements.results import HeatMapCheck
from tests import projects

CHECK = HeatMapCheck(wilson(90, 100), {"benign": wilson(48, 50), "malignant": wilson(42, 50)}, 0)


@pytest.fixture
def finished(project):
    """The reports of a project whose heat maps were checked."""
    found = projects.evaluation(MeasuredModel("sha256:0", "sha256:1"), 80).model_copy(update={"heat_map": CHECK})
    reports.write(found, project / "reports")
    return project / "reports"


def test_the_document_has_the_numbers_of_the_reports(finished, tmp_path):
    heat_map.run(finished, "heat_map", tmp_path)
    tables = results.read(tmp_path / "heat_map.json").tables
    network, pointed, precisions = (markdown(tables[name]) for name in ("network", "pointed", "precisions"))
    assert "| clean accuracy | 80.0% (71.1% to 86.7%) |" in network
    assert "| right under every attack up to 1/255 | 40.0% (30.9% to 49.8%) |" in network
    assert "| any | 90.0% (82.6% to 94.5%) |" in pointed
    assert "| malignant | 84.0% (71.5% to 91.7%) |" in pointed
    assert "| int8 | 90.0% | 0.0000 | 0.000 |" in precisions


def test_reports_without_a_check_are_refused(project, tmp_path):
    assert reports.read(EvaluationReport, project / "reports").heat_map is None
    with pytest.raises(DataError, match="expected a check of heat maps, got none"):
        heat_map.run(project / "reports", "heat_map", tmp_path)
