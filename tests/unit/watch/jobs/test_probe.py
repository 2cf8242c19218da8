"""The probe's judgement of its measurements; tests/services runs it against a real service."""

import pytest

from buckler import params
from buckler.watch.jobs import probe
from buckler.watch.jobs.canary import CanaryParams

CFG = params.parse(
    "probe",
    probe.ProbeParams,
    {
        "records": 4,
        "square_records": 1,
        "queries": 40,
        "transfer": {"attack": "pgd", "radius": "4/255", "steps": 2},
        "crafted_on": "release",
        "square_radius": 8,
        "seed": 7,
        "min_parity": 0.9,
        "max_probability_gap": 0.03,
        "max_flagged": {"clean": 0.2},
        "min_flagged": {"transfer": 0.3, "square": 0.5},
        "min_robust_accuracy": {"transfer": 0.1},
    },
)
GOOD = {
    "parity_ratio": 1.0,
    "probability_gap": 0.001,
    "flagged_ratio": {"clean": 0.1, "transfer": 0.4, "square": 0.6},
    "robust_accuracy": {"transfer": 0.2, "square": 1.0},
}


def test_measurements_within_all_limits_pass():
    assert probe.violations(GOOD, CFG) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parity_ratio": 0.8}, "parity with the release off-line 0.800 < 0.9"),
        ({"probability_gap": float("nan")}, "probability gap nan > 0.03"),
        ({"flagged_ratio": {"clean": 0.3, "transfer": 0.4, "square": 0.6}}, "flagged of clean pictures 0.300 > 0.2"),
        ({"flagged_ratio": {"clean": 0.1, "transfer": 0.2, "square": 0.6}}, "flagged of transfer pictures 0.200 < 0.3"),
        ({"flagged_ratio": {"clean": 0.1, "transfer": 0.4, "square": 0.1}}, "flagged of square pictures 0.100 < 0.5"),
        ({"robust_accuracy": {"transfer": 0.0, "square": 1.0}}, "robust accuracy under transfer 0.000 < 0.1"),
    ],
)
def test_each_violated_limit_is_a_reason(changes, reason):
    assert probe.violations({**GOOD, **changes}, CFG) == [reason]


def test_the_sections_of_params_yaml_are_valid():
    assert params.load("probe", probe.ProbeParams).queries > 12  # enough for the service to detect the search
    assert params.load("canary", CanaryParams).records
