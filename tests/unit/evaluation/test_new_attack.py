"""A new attack is one file and one line of the table: everything else learns of it from the attack itself."""

from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter

from buckler.attacks.base import Attack
from buckler.attacks.table import ATTACKS
from buckler.data.pictures import Pictures
from buckler.evaluation import reports, robustness
from buckler.evaluation.reports import MeasuredModel, RobustnessReport
from buckler.evaluation.sanity import doubt
from buckler.evaluation.suite import AttackSpec
from buckler.models.info import ModelInfo
from buckler.reporting import page
from tests import projects
from tests.forms import PICTURE, square
from tests.unit.interrupted import Scored, pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Darken(Attack[object]):
    """Every value lowered by a share of the radius."""

    name = "darken"
    description = "Takes light away from the whole picture."
    knowledge = "none"

    share: float = 1.0

    def perturb(self, model, batch, epsilon):
        return np.clip(batch.images - np.float32(self.share * epsilon), 0, 1)


def test_a_new_attack_runs_through_suite_report_and_page(monkeypatch, tmp_path):
    monkeypatch.setitem(ATTACKS, Darken.name, Darken)
    lines = [{"attack": "fgsm", "radii": ["4/255"]}, {"attack": "darken", "radii": ["4/255", "8/255"], "share": 0.5}]
    suite = TypeAdapter(tuple[AttackSpec, ...]).validate_python(lines)
    model = Scored(3)
    images, truth = pictures(model)
    labels = ("a", "b", "c")
    clean = model.forward(images)
    found = robustness.evaluate(
        model,
        model,
        Pictures(tuple("abcdefghijkl"), images, truth),
        suite,
        info=ModelInfo(labels, ("c",), square(6), "sha256:data"),
        clean=clean,
        seed=7,
        groups={},
    )
    checks = doubt(model, model, images, truth, outcomes=found.outcomes, clean=found.clean, seed=7, modality=PICTURE)
    report = projects.robustness(MeasuredModel("sha256:0", "sha256:1"), 80, 40).model_copy(
        update={
            "labels": labels,
            "clean_accuracy": found.clean_accuracy,
            "clean_confusion": found.cells[0].confusion,
            "cells": found.cells,
            "worst_case": found.worst_case,
            "checks": tuple(checks),
        }
    )
    reports.write(report, tmp_path)
    report = reports.read(RobustnessReport, tmp_path)
    assert [(cell.attack, cell.tuning) for cell in report.cells[1:]] == [("darken", {"share": 0.5})] * 2
    darkened = np.rint(np.clip(images - np.float32(2 / 255), 0, 1) * 255) / 255
    np.testing.assert_allclose(found.outcomes[1].logits, model.logits(darkened), atol=1e-4)
    assert "darken_not_stronger_than_white_box_at_4/255" in {check.name for check in report.checks}
    others = projects.decisions(report.model), projects.evaluation(report.model, 80)
    assert Darken.description in page.render(report, *others)
