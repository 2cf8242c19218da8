"""The committed reference is up to date and describes every setting and parameter."""

import re

import numpy as np
import pandas as pd
import pytest

from buckler import params
from buckler.data import splits
from buckler.detection.danger import dangerous_needed
from buckler.detection.reasons import Reason
from buckler.error_codes import ErrorCode
from buckler.release.requirements import unmet
from docs import generate, profile_needs
from pipelines import preflight
from pipelines.split import demands_of


@pytest.mark.parametrize("name", generate.FILES)
def test_the_committed_reference_equals_the_generated_one(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    committed = (generate.REFERENCE / name).read_text(encoding="utf-8")
    assert committed == generate.FILES[name](), f"docs/reference/{name} is out of date; run `make reference`"


@pytest.mark.parametrize("cls", generate.PROCESSES.values(), ids=generate.PROCESSES)
def test_every_setting_has_a_description(cls):
    assert [name for name, field in cls.model_fields.items() if not field.description] == []


def test_a_default_and_the_bounds_of_a_setting_are_in_its_row():
    (row,) = (line for line in generate.settings().splitlines() if line.startswith("| `BUCKLER_QUERY_RUN`"))
    assert [cell.strip() for cell in row.split("|")[2:4]] == ["`12`", "pictures, at least 3"]


def test_a_parameter_has_its_value_and_its_comment():
    table = generate.params().split("## `features`")[1].split("## ")[0]
    assert "| `copies` | `4` | rotated copies of each training picture" in table


def test_every_parameter_has_a_meaning():
    rows = [line.split(" | ") for line in generate.params().splitlines() if line.startswith("| `")]
    assert rows
    assert [key for key, *_, meaning in rows if not meaning.strip(" |")] == []


def test_every_reason_and_every_error_code_has_a_row_that_says_what_to_do():
    rows = [line.strip("| ").split(" | ") for line in generate.answers().splitlines() if line.startswith("| `")]
    assert sorted(name.strip("`") for name, *_ in rows) == sorted([*Reason, *ErrorCode])
    assert all(row[-1] for row in rows)


def test_the_table_of_the_pictures_that_a_profile_needs_is_up_to_date():
    page = profile_needs.PAGE.read_text(encoding="utf-8")
    assert page == profile_needs.fill(page), "docs/how-to/own-pictures.md is out of date; run `make reference`"
    profiles = params.read(generate.ROOT / "params.yaml")["profiles"]
    assert [row for row in profiles if f"| `{row}` |" in page] == list(profiles)


def test_the_page_states_how_many_dangerous_pictures_a_sensitivity_takes():
    rows = re.findall(r"^\| (0\.\d+) \| (\d+) \| (\d+) \| (\d+) \|$", profile_needs.PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 2
    for sensitivity, *stated in rows:
        assert [int(count) for count in stated] == [
            dangerous_needed(float(sensitivity), 0.95, misses=misses) for misses in range(3)
        ]


@pytest.mark.parametrize("profile", ["demo", "paper", "hardened"])
def test_so_many_pictures_are_enough_and_fewer_are_not(profile):
    cfg = preflight.parse(params.with_profile(profile, {}, generate.ROOT / "params.yaml"))
    demands = demands_of(cfg.data, cfg.calibrate, cfg.gate, attacked=0, seed=7)
    dangerous, others, _ = profile_needs.least(cfg)

    def unmet_with(missing):
        labels = ["benign"] * others + list(cfg.data.malignant) * (dangerous - missing)
        frame = pd.DataFrame({"id": map(str, range(len(labels))), "label": labels})
        frame["sha256"] = frame["id"]
        assigned = splits.assign(
            frame, np.arange(len(frame)), test=cfg.split.test, calibration=cfg.split.calibration, seed=7
        )
        return unmet(demands.needs(["benign", *cfg.data.malignant]), demands.counts(frame, assigned))

    assert unmet_with(missing=0) == []
    assert unmet_with(missing=8) != []
