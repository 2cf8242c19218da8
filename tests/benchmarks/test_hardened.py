"""The table that `make hardened` prints."""

from dataclasses import replace

import numpy as np
from PIL import Image

from benchmarks.hardened import draw, remark, table
from benchmarks.tables import markdown
from buckler.evaluation.reports import MeasuredModel
from buckler.measurements.results import CheckResult
from buckler.reporting import plots
from tests import projects


def robustness(clean, robust, **changes):
    return projects.robustness(MeasuredModel("sha256:0", "sha256:1"), clean, robust).model_copy(update=changes)


def test_each_network_has_its_column_and_each_row_says_whether_the_goal_is_reached():
    undefended, hardened = robustness(90, 0), robustness(86, 70)
    page = markdown(table(undefended, hardened)).splitlines()
    (clean,) = (line for line in page if line.startswith("| clean accuracy"))
    assert "| 90.0% (82.6% to 94.5%) | 86.0% (77.9% to 91.5%) | 85% | yes |" in clean
    (worst,) = (line for line in page if line.startswith("| worst case 1/255"))
    assert "| 0.0% (0.0% to 3.7%) | 70.0% (60.4% to 78.1%) | 73% | no |" in worst
    assert "Checks: all passed." in remark(hardened)


def test_a_failed_check_is_named_and_rates_that_were_not_measured_are_omitted():
    undefended, hardened = robustness(90, 0), robustness(86, 70)
    failed = CheckResult("chance_at_128/255", "huge_radius", False, "60 of 64")
    hardened = robustness(86, 70, checks=(*hardened.checks, failed))
    page = markdown(table(undefended, hardened)).splitlines()
    assert "Checks: failed: chance_at_128/255." in remark(hardened)
    assert not any("4/255 |" in line for line in page)


def test_the_budget_of_a_search_is_its_queries():
    fgsm, second = robustness(86, 70).cells
    hardened = robustness(86, 70, cells=(fgsm, replace(second, attack="square", knowledge="score", queries=100)))
    assert remark(hardened).startswith("Worst case over: fgsm 1/255, 1 steps; square 2/255, 100 queries. ")


def test_the_curves_of_both_networks_are_drawn(tmp_path):
    undefended, hardened = robustness(90, 0), robustness(86, 70, clean_confusion=[[40, 10], [4, 46]])
    draw(undefended, hardened, tmp_path / "drawn/comparison.png")
    with Image.open(tmp_path / "drawn/comparison.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for colour in plots.COLOURS[:2]:
        assert (pixels == np.array(bytearray.fromhex(colour[1:]))).all(axis=2).sum() > 50
