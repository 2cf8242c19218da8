"""Every setting of params.yaml with values that it cannot have: a ``ParamsError``, or a value that has a meaning."""

import copy
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from buckler import params
from buckler.errors import ParamsError
from buckler.watch.drift import DriftParams
from buckler.watch.jobs.canary import CanaryParams
from buckler.watch.jobs.probe import ProbeParams
from buckler.watch.settings import WatchParams
from pipelines import preflight
from pipelines.preflight import RunParams
from pipelines.stage import ROOT

OF_THE_WATCH = {"watch": WatchParams, "drift": DriftParams, "probe": ProbeParams, "canary": CanaryParams}
NAN, INF = float("nan"), float("inf")
NEVER = [-1, 10**30, 1e308, -INF, INF, NAN, [NAN], "text", [[1]], {"a": {}}, None]  # of a number


@cache
def written():
    return {name: section for name, section in params.read(ROOT / "params.yaml").items() if name != "profiles"}


def places(node, *path):
    """Yield the path of every setting that is a number."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, each in inner:
        yield from places(each, *path, key)
    if isinstance(node, int | float) and not isinstance(node, bool):
        yield path


def changed(path, value):
    document = copy.deepcopy(written())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


def parsed(path, value):
    section, document = path[0], changed(path, value)
    kind = OF_THE_WATCH.get(section) or RunParams.__annotations__[section]
    return params.parse(section, kind, document[section])


NUMBERS = [path for path in places(written()) if path[:2] != ("watch", "suite")]


@pytest.mark.parametrize("path", NUMBERS, ids=lambda path: ".".join(map(str, path)))
def test_a_number_is_refused_where_it_has_no_meaning(path):
    for value in NEVER:
        with pytest.raises(ParamsError) as caught:
            parsed(path, value)
        assert "\n" not in str(caught.value)
    for value in (0, 1, 0.5, 2, 1000):
        with suppress(ParamsError):
            parsed(path, value)


@pytest.mark.parametrize("key", ["attack.records", "split.test", "gate.max_accepted_misses", "drift.alpha"])
def test_true_is_no_number(key):
    with pytest.raises(ParamsError, match=r"number|integer"):
        parsed(key.split("."), True)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("data.image_size", (0, 1, 4096)),
        ("data.malignant", ([],)),
        ("data.per_class", (10**9,)),
        ("data.max_unmatched", (2, -0.1)),
        ("validate.max_undecodable", (2,)),
        ("validate.max_imbalance", (0.5, INF)),
        ("split.near_duplicate_correlation", (5, 1, 0)),
        ("split.near_duplicate_bits", (0, 65)),
        ("calibrate.confidence", (0.1, 1)),
        ("calibrate.min_sensitivity", (0, 0.1, 1)),
        ("calibrate.stranger_margin", (0, 1000)),
        ("calibrate.max_fpr", (0, 1)),
        ("gate.max_accepted_misses", (2,)),
        ("gate.min_clean_accuracy", (-0.5, 70)),
        ("gate.regression_alpha", (0, 1)),
        ("gate.valid_days", (0, 36500)),
        ("drift.min_ks", (1,)),
        ("drift.min_mmd", (-0.1, 2)),
        ("probe.min_parity", (0,)),
        ("canary.min_right", (0,)),
        ("canary.records", (0,)),
    ],
)
def test_a_protection_cannot_be_switched_off_by_a_value_out_of_range(key, values):
    for value in values:
        with pytest.raises(ParamsError):
            parsed(key.split("."), value)


@pytest.mark.parametrize("name", [[], {}, {1: 2}, None, "pgdd", 3])
def test_an_attack_that_is_none_is_refused(name):
    with pytest.raises(ParamsError, match="expected an attack of"):
        parsed(("attack", "suite", 0, "attack"), name)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("data", "malignant"), ["benign", "malignant"], "expected some labels of the synthetic source, got all"),
        (("data", "per_class"), 900_000, "expected at most 50000 for the synthetic source"),
    ],
)
def test_settings_that_contradict_each_other_are_named(path, value, message):
    faults = preflight.contradictions(preflight.parse(changed(path, value), Path("params.yaml")))
    assert any(message in fault for fault in faults)
