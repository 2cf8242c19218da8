"""A proposed change is applied to the settings, and must then be enough."""

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from buckler.release.remedies import Division, shortage
from buckler.release.requirements import Demands
from tests.unit.release.policies import POLICY, dangerous_of

DEMANDS = Demands(
    POLICY, dangerous_of("malignant"), max_fpr=0.05, confidence=0.95, min_sensitivity=0.95, attacked=0, attack_seed=7
)


def division(benign, malignant, *, test=0.3, calibration=0.3, group=1):
    """Return so many pictures of each class, of which ``group`` at a time stay together."""
    labels = ["benign"] * benign + ["malignant"] * malignant
    frame = pd.DataFrame({"id": [f"{label}/{i}" for i, label in enumerate(labels)], "label": labels})
    frame["sha256"] = frame["id"]
    return Division(frame, np.arange(len(frame)) // group * group, {"test": test, "calibration": calibration}, seed=7)


def short(divided, demands=DEMANDS, *, per_class=0, available=0):
    counts = demands.counts(divided.frame, divided.assigned())
    return shortage(demands, divided, counts, per_class, available=available)


def way(found, pattern):
    """Return the numbers in the proposed change that ``pattern`` matches."""
    matches = [match for sentence in found.remedies if (match := re.search(pattern, sentence))]
    assert len(matches) == 1, found.remedies
    return [float(number) for number in matches[0].groups()]


def test_enough_pictures_have_no_shortage():
    assert short(division(200, 200)) is None


@pytest.mark.parametrize("group", [1, 4])
def test_larger_shares_are_proposed_if_the_pictures_suffice(group):
    few = division(400, 400, test=0.05, calibration=0.1, group=group)
    (calibration, test) = way(
        short(few), r"split\.test from 0\.05 to ([\d.]+) and split\.calibration from 0\.1 to ([\d.]+): \d+% of"
    )[::-1]
    assert short(replace(few, shares={"test": test, "calibration": calibration})) is None
    assert test < 0.15
    assert calibration < 0.2


def test_no_shares_are_proposed_that_leave_hardly_a_picture_to_train_on():
    assert not any("split." in sentence for sentence in short(division(80, 80)).remedies)


def test_the_pictures_that_are_missing_are_enough_at_the_present_shares():
    few = division(300, 100)
    (count,) = way(short(few), r"add about (\d+) pictures of malignant$")
    assert short(division(300, 100 + int(count))) is None
    assert short(division(300, 100 + int(count) - 6)) is not None


def test_more_pictures_of_one_class_need_more_of_the_others_for_the_balance():
    few, balanced = division(90, 40), replace(DEMANDS, max_imbalance=2)
    malignant, benign = way(
        short(few, balanced), r"add about (\d+) pictures of malignant and (\d+) pictures of benign$"
    )
    assert 90 + benign == math.ceil((40 + malignant) / 2)
    assert way(short(few), r"add about (\d+) pictures of malignant$") == [malignant]


def test_the_limit_of_pictures_a_class_is_raised_with_them():
    count, least = way(short(division(100, 100), per_class=100), r"add about (\d+) .*data\.per_class from 100 to (\d+)")
    assert least == 100 + count


@pytest.mark.parametrize("available", [math.inf, 197])
def test_a_source_that_has_more_pictures_is_asked_for_more(available):
    (least,) = way(
        short(division(100, 100), per_class=100, available=available), r"^raise data\.per_class from 100 to (\d+)$"
    )
    assert short(division(int(least), int(least))) is None


def test_a_wider_margin_is_proposed_if_it_is_enough():
    few = division(200, 400, test=0.08, calibration=0.4)
    (margin,) = way(short(few), r"gate\.max_margin_of_error from 0\.15 to ([\d.]+)")
    assert short(few, replace(DEMANDS, policy=replace(POLICY, max_margin_of_error=margin))) is None
    narrower = replace(POLICY, max_margin_of_error=margin - 0.01)
    assert short(few, replace(DEMANDS, policy=narrower)) is not None


def test_a_lower_sensitivity_is_proposed_if_it_is_enough():
    few = division(200, 100, test=0.45)
    (least,) = way(short(few), r"calibrate\.min_sensitivity from 0\.95 to ([\d.]+)")
    assert short(few, replace(DEMANDS, min_sensitivity=least)) is None
    assert short(few, replace(DEMANDS, min_sensitivity=least + 0.01)) is not None


def test_weaker_demands_are_not_proposed_if_they_are_not_enough():
    proposed = " ".join(short(division(30, 30)).remedies)
    assert "margin" not in proposed
    assert "sensitivity" not in proposed


def test_attacking_all_pictures_is_proposed_if_too_few_are_attacked():
    found = short(division(200, 200), replace(DEMANDS, attacked=20))
    assert "set attack.records to 0: all test pictures are attacked" in found.remedies


def test_the_text_names_what_is_missing_before_what_would_help():
    text = short(division(200, 150)).text("\n")
    first, second, *_ = text.splitlines()
    assert first.startswith("too few pictures: expected at least 59 calibration pictures of malignant")
    assert first.endswith("got 45")
    assert second.startswith("one of these changes is enough: raise split.calibration from 0.3 to 0.")
