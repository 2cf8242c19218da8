"""The committed reference is up to date and describes every setting and parameter."""

import pytest

from buckler.detection.reasons import Reason
from buckler.error_codes import ErrorCode
from docs import generate


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
