import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from buckler.serving.traffic import TrafficObservation
from buckler.serving.traffic_mixing import GROUP, MOMENT_SECONDS, mixed, mixed_in_groups, secret_generator

NUMBERS = ("brightness", "contrast", "red", "green", "blue", "saturation", "sharpness", "score", "confidence")


def seen(number: int, **changes: object) -> TrafficObservation:
    """Return exact measurements that no other picture has."""
    generator = np.random.default_rng(number)
    values = {name: float(generator.normal(0.5, 0.1)) for name in NUMBERS}
    values |= {"confidence": float(generator.beta(8, 2)), "sharpness": float(generator.lognormal(5, 1))}
    sizes = {"width": 640, "height": 480, "size_bytes": int(generator.normal(50_000, 9_000))}
    label = "malignant" if number % 3 == 0 else "benign"
    sketch = tuple(generator.normal(size=8).tolist())
    given = {"moment": 0.0, "digest": "sha256:1", "label": label, "decision": "accept", "sketch": sketch}
    return TrafficObservation(**{**given, **values, **sizes, **changes})


def group(count: int = GROUP, first: int = 0) -> list[TrafficObservation]:
    return [seen(first + number) for number in range(count)]


def stored(observations, seed: int = 1, moment: float = 0.0) -> list[TrafficObservation]:
    return mixed(observations, np.random.default_rng(seed), moment=moment)


def column(rows, name: str) -> np.ndarray:
    return np.array([getattr(row, name) for row in rows], np.float64)


def test_no_exact_number_is_stored():
    given, rows = group(), stored(group())
    assert len(rows) == len(given)
    for name in (*NUMBERS, "size_bytes"):
        assert not set(column(given, name)) & set(column(rows, name)), name
    exact = {number for each in given for number in each.sketch}
    assert not exact & {number for row in rows for number in row.sketch}


def test_the_time_is_an_hour_the_same_for_the_whole_group():
    now = time.time()
    assert {row.moment for row in stored(group(), moment=now)} == {now - now % MOMENT_SECONDS}


def test_a_row_holds_nothing_together():
    """Brightness says nothing about the label of the same row, though one follows from the other in each picture."""
    told = []
    for number in range(200):
        given = [
            seen(each, brightness=0.8 if each % 2 else 0.2, label="malignant" if each % 2 else "benign")
            for each in range(GROUP)
        ]
        rows = stored(given, seed=number)
        told.append(np.corrcoef(column(rows, "brightness"), [row.label == "malignant" for row in rows])[0, 1])
    # The standard error of the mean of 200 correlations of 64 pairs is 0.009.
    assert abs(np.mean(told)) < 0.04


@pytest.mark.parametrize("name", NUMBERS)
def test_mean_and_spread_of_many_groups_stay(name: str):
    given = group(40 * GROUP)
    rows = mixed_in_groups(given, seed=3)
    before, after = column(given, name), column(rows, name)
    if name == "sharpness":
        before, after = np.log(before), np.log(after)
    assert after.mean() == pytest.approx(before.mean(), abs=0.15 * before.std())
    assert after.std() == pytest.approx(before.std(), rel=0.25)


def test_labels_and_decisions_keep_their_counts():
    given = [seen(number, decision="review" if number < 5 else "accept") for number in range(GROUP)]
    rows = stored(given)
    for name in ("label", "decision"):
        assert Counter(getattr(row, name) for row in rows) == Counter(getattr(each, name) for each in given)


def test_a_single_outlier_does_not_stand_out():
    given = [*group(GROUP - 1), replace(seen(99), brightness=5.0, size_bytes=9_000_000, sketch=(90.0,) * 8)]
    rows = stored(given)
    assert column(rows, "brightness").max() < 1.5
    assert max(row.size_bytes for row in rows) < 200_000
    assert max(max(row.sketch) for row in rows) < 20


def test_sizes_are_rounded_and_rare_ones_replaced():
    given = [seen(number, width=640 if number < 40 else 1024) for number in range(GROUP - 1)]
    rows = stored([*given, seen(99, width=1920)])
    assert Counter(row.width for row in rows) == {609: 40, 1024: 24}


def test_pictures_without_a_size_stay_without():
    given = [seen(number, width=None, height=None, size_bytes=None) for number in range(GROUP)]
    assert {row.width for row in stored(given)} == {None}
    assert {row.width for row in stored([*given[:-1], seen(99, width=640)])} == {None}


def test_copies_of_one_picture_are_blurred():
    rows = stored([seen(1)] * GROUP)
    assert len(set(column(rows, "brightness"))) == GROUP
    assert column(rows, "brightness").std() > 0.01


def test_a_missing_sketch_stays_missing():
    assert {row.sketch for row in stored([seen(number, sketch=()) for number in range(GROUP)])} == {()}


def test_confidence_stays_a_probability():
    rows = stored([seen(number, confidence=1.0 if number % 2 else 0.5) for number in range(GROUP)])
    assert all(0 <= row.confidence <= 1 for row in rows)


def test_groups_have_at_least_the_size_of_a_group():
    given = group(3 * GROUP - 1)
    rows = mixed_in_groups(given, seed=2)
    assert Counter(row.label for row in rows) == Counter(each.label for each in given)
    assert mixed_in_groups(given, seed=2) == rows
    assert mixed_in_groups([], seed=2) == []


def test_nobody_knows_the_seed():
    assert secret_generator().random() != secret_generator().random()
