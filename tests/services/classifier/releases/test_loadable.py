"""What a release of another version, or a damaged one, is called before a service refuses it: it is loaded as there."""

import json
import shutil

import numpy as np
import pytest

from benchmarks.signing import write_verdict
from buckler.serving import loadable, selftest
from buckler.serving.assessment import ReasonCode
from buckler.serving.release_files import read_release
from tests.key_files import trusted_in

MODEL = "skin-lesion"


@pytest.fixture
def found(release, keys, tmp_path):
    """A function that changes a copy of the release, signs it and returns the reasons for not loading it."""

    def change_and_try(change):
        copy = shutil.copytree(release, tmp_path / "release")
        change(copy / "model")
        write_verdict(copy, keys, MODEL)
        opened = read_release(copy, trusted_in(keys), model=MODEL)
        return [*opened.reasons, *loadable.flaws(opened)]

    return change_and_try


def changed_arrays(path, **changes):
    with np.load(path) as arrays:
        np.savez(path, **(dict(arrays) | {name: change(arrays[name]) for name, change in changes.items()}))


def test_an_intact_release_is_loaded(found):
    assert found(lambda model: None) == []


def columns_that_the_network_lacks(model):
    changed_arrays(model / "detector.npz", **{"clouds.read": lambda columns: columns + 100_000})


def limits_of_three_measures(model):
    changed_arrays(
        model / "detector.npz", **{"quality.low": lambda low: low[:3], "quality.high": lambda high: high[:3]}
    )


def a_head_of_another_width(model):
    changed_arrays(model / "head.npz", kernel_0=lambda kernel: kernel[:-1])


def no_threshold(model):
    info = json.loads((model / "detector.json").read_text())
    del info["strangeness"]
    (model / "detector.json").write_text(json.dumps(info))


def a_description_of_a_later_version(model):
    info = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**info, "schema": 99}))


def a_weight_that_is_not_a_number(model):
    for file in model.glob("*.bin"):
        content = bytearray(file.read_bytes())
        content[-4:] = np.float32(np.nan).tobytes()
        file.write_bytes(content)


def an_infinite_weight_of_the_head(model):
    changed_arrays(model / "head.npz", bias_0=lambda bias: np.full_like(bias, np.inf))


def a_threshold_that_is_not_a_number(model):
    info = json.loads((model / "detector.json").read_text()) | {"threshold": float("nan")}
    (model / "detector.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    "change",
    [
        columns_that_the_network_lacks,
        limits_of_three_measures,
        a_head_of_another_width,
        no_threshold,
        a_description_of_a_later_version,
        a_weight_that_is_not_a_number,
        an_infinite_weight_of_the_head,
        a_threshold_that_is_not_a_number,
    ],
)
def test_what_this_version_cannot_load_is_said_with_what_to_do(found, change):
    (reason,) = found(change)
    assert reason.code == ReasonCode.UNLOADABLE
    assert reason.sentence.startswith("this version of the product cannot load the model: ")
    assert "run `dvc repro` and `buckler promote`" in reason.sentence
    if "number" in change.__name__ or "infinite" in change.__name__:
        assert "expected finite numbers" in reason.sentence


def test_other_answers_than_at_the_gate_are_said(found):
    def other_answers(model):
        with np.load(model / selftest.FILE) as arrays:
            expected = [name for name in arrays.files if name.startswith("expected_")]
        changed_arrays(model / selftest.FILE, **{name: lambda answers: answers + 9 for name in expected})

    (reason,) = found(other_answers)
    assert reason.code == ReasonCode.SELF_TEST
    assert "run `dvc repro` and `buckler promote`" in reason.sentence
