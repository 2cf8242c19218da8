"""Times of the stages, beside the reports."""

import json

import pytest

from buckler.state import timings


def test_a_stage_replaces_its_own_time_and_keeps_the_others(tmp_path):
    timings.record_stage(tmp_path / "reports", "attack", 61.23, "a processor")
    timings.record_stage(tmp_path / "reports", "gate", 1.0, "a processor")
    timings.record_stage(tmp_path / "reports", "attack", 2.0, "another")
    found = timings.read(tmp_path / "reports").stages
    assert {name: (time.seconds, time.machine) for name, time in found.items()} == {
        "attack": (2.0, "another"),
        "gate": (1.0, "a processor"),
    }


def test_a_suite_replaces_the_seconds_of_the_last_suite(tmp_path):
    timings.record_attacks(tmp_path, {"fgsm@1/255": 1.26, "pgd@1/255": 3.0})
    timings.record_stage(tmp_path, "attack", 5.0, "a processor")
    timings.record_attacks(tmp_path, {"fgsm@1/255": 2.04})
    found = timings.read(tmp_path)
    assert found.attacks == {"fgsm@1/255": 2.0}
    assert set(found.stages) == {"attack"}


@pytest.mark.parametrize("content", [None, "", "[]", "{", json.dumps({"stages": {"attack": 1}})])
def test_a_missing_or_damaged_file_has_no_times_and_is_written_again(tmp_path, content):
    if content is not None:
        (tmp_path / timings.FILE).write_text(content)
    assert timings.read(tmp_path) == timings.Timings()
    timings.record_stage(tmp_path, "gate", 1.0, "a processor")
    assert set(timings.read(tmp_path).stages) == {"gate"}
