from dataclasses import replace

import pytest

from buckler.measurements.results import Expectation, Quarantined
from buckler.release import data_floors
from tests import projects

POLICY = replace(projects.POLICY, allowed_warnings=("no_repeated_files",), max_quarantined=0.02, min_class_records=50)


def report(*violated, **changes):
    """Return a report with expectations that are violated, as (name, severity)."""
    expectations = tuple(Expectation(name, severity, False, "this", "that") for name, severity in violated)
    whole = projects.validation()
    return whole.model_copy(update={"expectations": (*whole.expectations, *expectations), **changes})


def failures(found):
    return list(data_floors.failures(found, POLICY))


def test_data_that_meet_every_expectation_break_no_rule():
    assert failures(report()) == []
    assert list(data_floors.allowed(report(), POLICY)) == []


def test_a_warning_fails_unless_the_policy_allows_it_and_then_it_is_noted():
    found = report(("width", "warning"), ("no_repeated_files", "warning"))
    assert failures(found) == ["data: width: expected this; seen: that"]
    assert list(data_floors.allowed(found, POLICY)) == [
        "allowed by gate.allowed_warnings: data: no_repeated_files: expected this; seen: that"
    ]


def test_no_policy_allows_what_is_critical():
    assert failures(report(("no_repeated_files", "critical"))) == ["data: no_repeated_files: expected this; seen: that"]


@pytest.mark.parametrize(("count", "fails"), [(2, False), (3, True)])
def test_too_large_a_share_in_quarantine_fails(count, fails):
    found = report(quarantined=tuple(Quarantined(f"{i}.png", "image_empty") for i in range(count)))
    assert failures(found) == (["data: 0.030 of the files are in quarantine > 0.020"] if fails else [])


def test_every_small_class_is_named():
    found = report(classes={"benign": 50, "malignant": 49, "naevus": 3})
    assert failures(found) == [
        "data: 49 usable records of class 'malignant' < 50",
        "data: 3 usable records of class 'naevus' < 50",
    ]


def test_data_without_a_validation_fail():
    assert failures(None) == ["the data were not validated, expected at least 50 records in every class"]
