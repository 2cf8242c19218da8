from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from buckler.data import pictures
from buckler.detection.threshold import check_enough
from buckler.errors import ParamsError
from buckler.evaluation.statistics import wilson
from buckler.release.requirements import Demands, unmet
from tests.unit.release.policies import POLICY, dangerous_of

LABELS = ["bcc", "mel", "nv"]
DEMANDS = Demands(
    POLICY, dangerous_of("mel", "bcc"), max_fpr=0.05, confidence=0.95, min_sensitivity=0.95, attacked=0, attack_seed=7
)


def divided(**sizes):
    """Return a manifest and the split of its rows: for each split, so many pictures of each of `LABELS`."""
    rows = [
        (split, label)
        for split, counts in sizes.items()
        for label, n in zip(LABELS, counts, strict=True)
        for _ in range(n)
    ]
    frame = pd.DataFrame(rows, columns=["split", "label"])
    frame["id"] = frame["label"] + "/" + frame.index.astype(str)
    return frame, frame["split"].to_numpy(dtype="<U11")


def needs(demands=DEMANDS, labels=LABELS):
    return {(need.part, need.labels, need.reason.split()[0]): need.count for need in demands.needs(labels)}


def test_a_floor_needs_pictures_of_the_classes_that_it_judges():
    asked = needs()
    assert set(asked) >= {
        ("test", ("bcc", "mel", "nv"), "gate.min_clean_accuracy"),
        ("test", ("bcc", "mel", "nv"), "gate.min_robust_accuracy"),
        ("test", ("bcc", "mel"), "gate.min_malignant_recall"),
        ("test", ("bcc", "mel"), "gate.max_accepted_misses"),
        ("test", ("bcc", "mel"), "gate.min_robust_sensitivity"),
        ("test", ("nv",), "gate.min_robust_specificity"),
    }


def test_a_floor_needs_as_many_as_its_interval_is_wide():
    count = needs()["test", ("bcc", "mel"), "gate.min_robust_sensitivity"]
    halves = [(wilson(round(0.3 * n), n).high - wilson(round(0.3 * n), n).low) / 2 for n in (count, count // 2)]
    assert halves[0] <= POLICY.max_margin_of_error < halves[1]


def test_calibration_needs_59_pictures_and_59_dangerous_ones():
    asked = needs()
    assert asked["calibration", ("bcc", "mel", "nv"), "calibrate.max_fpr"] == 59
    assert asked["calibration", ("bcc", "mel"), "calibrate.min_sensitivity"] == 59
    assert (
        needs(replace(DEMANDS, min_sensitivity=0.9))["calibration", ("bcc", "mel"), "calibrate.min_sensitivity"] == 29
    )


def test_the_detectors_need_is_the_one_that_its_threshold_enforces():
    count = needs()["calibration", ("bcc", "mel", "nv"), "calibrate.max_fpr"]
    check_enough(count, 0.05, 0.95)
    with pytest.raises(ParamsError, match=f"expected at least {count}"):
        check_enough(count - 1, 0.05, 0.95)


def test_floors_under_attack_count_the_attacked_pictures_if_not_all_are_attacked():
    asked = needs(replace(DEMANDS, attacked=50))
    assert {part for part, _, name in asked if name.startswith("gate.min_robust")} == {"attacked"}
    assert {part for part, _, name in asked if name in ("gate.min_clean_accuracy", "gate.min_malignant_recall")} == {
        "test"
    }


def test_settings_that_judge_nothing_need_nothing():
    free = replace(
        POLICY,
        min_clean_accuracy=0.0,
        min_robust_accuracy={1: 0.0},
        min_malignant_recall=0.0,
        max_accepted_misses=1.0,
        min_robust_sensitivity={},
        min_robust_specificity={1: 0.0},
    )
    assert {part for part, *_ in needs(replace(DEMANDS, policy=free))} == {"all", "calibration"}


def test_data_without_a_dangerous_label_have_neither_sensitivity_nor_specificity():
    reasons = {reason for *_, reason in needs(replace(DEMANDS, dangerous=dangerous_of()))}
    assert reasons == {
        "gate.min_class_records",
        "calibrate.max_fpr",
        "gate.min_clean_accuracy",
        "gate.min_robust_accuracy",
    }


def test_the_pictures_of_each_part_are_counted():
    frame, assigned = divided(train=(9, 8, 7), calibration=(3, 2, 1), test=(6, 5, 4))
    counts = DEMANDS.counts(frame, assigned)
    assert counts["all"] == {"bcc": 18, "mel": 15, "nv": 12}
    assert counts["calibration"] == {"bcc": 3, "mel": 2, "nv": 1}
    assert counts["test"] == counts["attacked"] == {"bcc": 6, "mel": 5, "nv": 4}


def test_the_attacked_pictures_are_those_that_the_stage_draws():
    frame, assigned = divided(train=(9, 8, 7), calibration=(3, 2, 1), test=(6, 5, 4))
    shuffled = np.random.default_rng(0).permutation(len(frame))
    counts = replace(DEMANDS, attacked=5).counts(frame.iloc[shuffled], assigned[shuffled])
    test = frame[assigned == "test"].sort_values("id")  # as in data/splits/test.csv
    stage = pictures.Pictures(tuple(test["id"]), np.zeros((15, 1)), np.zeros(15)).subset(5, 7)
    drawn = pd.Series(stage.ids).str.split("/").str[0].value_counts().to_dict()
    assert counts["attacked"] == drawn
    assert sum(drawn.values()) == 5


def test_only_the_largest_of_several_needs_of_the_same_pictures_is_reported():
    twice = replace(DEMANDS, policy=replace(POLICY, min_robust_specificity={1: 0.2, 2: 0.5}))
    frame, assigned = divided(train=(90, 80, 70), calibration=(30, 30, 30), test=(60, 60, 3))
    short = unmet(twice.needs(LABELS), twice.counts(frame, assigned))
    assert [(need.part, need.labels) for need in short] == [("test", ("nv",))]
    assert "for gate.min_robust_specificity {2/255: 0.5} with gate.max_margin_of_error 0.15" in str(short[0])


@pytest.mark.parametrize(("malignant", "refused"), [(59, False), (58, True)])
def test_exactly_the_least_number_is_enough(malignant, refused):
    frame, assigned = divided(train=(90, 80, 70), calibration=(0, malignant, 30), test=(60, 60, 60))
    short = unmet(DEMANDS.needs(LABELS), DEMANDS.counts(frame, assigned))
    assert [need.reason.split()[0] for need in short] == ["calibrate.min_sensitivity"] * refused
