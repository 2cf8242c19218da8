"""The rows of a detector's report, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from buckler.detection.reasons import Reason
from buckler.evaluation import detection
from buckler.evaluation.detection import Screened
from buckler.measurements.detection import WeakestDetection
from buckler.models.forward import Forward
from buckler.radius import StatedRadius

TRUTH = np.array([0, 0, 1, 1])


def screened(scores, answers, *, strangers=(), line=5.0):
    """Four pictures with these scores and answers; those at ``strangers`` are out of distribution."""
    scores = np.asarray(scores, float)
    logits = np.eye(2, dtype=np.float32)[list(answers)]
    strange = np.isin(np.arange(len(scores)), strangers)
    flags = {
        Reason.ADVERSARIAL: scores > line,
        Reason.OUT_OF_DISTRIBUTION: strange,
        Reason.LOW_CONFIDENCE: np.ones(len(scores), bool),
        Reason.IMAGE_QUALITY: np.zeros(len(scores), bool),
    }
    return Screened(Forward(logits, np.zeros((len(scores), 1), np.float32)), scores, flags)


CLEAN = screened([1, 2, 3, 9], TRUTH)


FACTS = {"attack": "fgsm", "norm": "linf", "radius": StatedRadius("2/255"), "stops_at_boundary": False}


def test_a_row_counts_wrong_answers_that_are_not_flagged():
    # The first is wrong and flagged, the second wrong and a stranger, the third wrong and not flagged.
    attacked = screened([8, 2, 3, 4], [1, 1, 0, 1], strangers=[1])
    row = detection.attack_row(CLEAN, attacked, TRUTH, **FACTS)
    assert (row.wrong.value, row.wrong_and_unflagged.value, row.flagged.value) == (0.75, 0.25, 0.25)
    assert (row.attack, row.adaptive) == ("fgsm", False)


def test_low_confidence_does_not_flag_a_picture():
    assert not screened([1, 1, 1, 1], TRUTH).flagged.any()


def test_auc_and_rates_are_those_of_the_ranking():
    row = detection.attack_row(CLEAN, screened([10, 10, 2.5, 0], TRUTH), TRUTH, **FACTS)
    # Above 10: nothing clean, so both count four; 2.5 beats two of four, 0 beats none.
    assert row.auc == pytest.approx((4 + 4 + 2 + 0) / 16)
    assert row.tpr_at_fpr == {"0.01": 0.5, "0.05": 0.5}


def test_risk_falls_to_zero_if_the_most_suspicious_answers_are_the_wrong_ones():
    points = detection.risk_coverage(screened([1, 2, 3, 4], [0, 0, 1, 0]), TRUTH, points=4)
    assert [(p.coverage, p.risk) for p in points] == [(0.25, 0), (0.5, 0), (0.75, 0), (1.0, 0.25)]


def test_the_worst_auc_of_a_radius_is_among_attacks_without_early_exit_that_do_not_know_the_detector():
    def row(name, auc, evaded, **facts):
        flags = np.arange(10) < evaded
        made = detection.attack_row(CLEAN, CLEAN, TRUTH, **FACTS)
        return replace(made, attack=name, auc=auc, wrong_and_unflagged=detection.rate(flags), **facts)

    rows = [
        row("fgsm", 0.9, 1),
        row("pgd", 0.95, 2),
        row("pgd", 0.5, 4, stops_at_boundary=True),
        row("pgd-joint", 0.1, 6, adaptive=True, stops_at_boundary=True),
        row("pgd-camouflage", 0.2, 3, adaptive=True, stops_at_boundary=True),
        row("pgd_l2", 0.01, 9, norm="l2"),
    ]
    (worst,) = detection.worst_by_radius(rows, {StatedRadius("2/255"): np.arange(10) < 7})
    assert worst.auc == WeakestDetection("fgsm", 0.9)
    assert worst.wrong_and_unflagged.value == 0.6
    assert worst.adaptive_wrong_and_unflagged.value == 0.7
    (without,) = detection.worst_by_radius(rows, {})
    assert without.adaptive_wrong_and_unflagged is None


def test_clean_rows_have_a_rate_for_each_group():
    groups = {("label", "benign"): TRUTH == 0, ("label", "malignant"): TRUTH == 1, ("label", "none"): TRUTH == 2}
    assert detection.clean_rates(CLEAN)["adversarial"].value == 0.25
    rows = detection.subgroup_rows(CLEAN, groups)
    assert [(row.group, row.clean_fpr.value) for row in rows] == [("benign", 0.0), ("malignant", 0.5)]


def test_a_curve_of_corners_has_the_same_area_with_fewer_points():
    clean, attacked = np.arange(8.0), np.arange(4.0, 12.0)
    whole, corners = detection.curve(clean, attacked), detection.curve(clean, attacked, corners=True)
    assert len(corners[0]) < len(whole[0])
    assert np.trapezoid(corners[1], corners[0]) == pytest.approx(np.trapezoid(whole[1], whole[0]))
