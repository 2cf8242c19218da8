"""The serving benchmark on the tiny network, and its comparison of invented results."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from benchmarks import serving
from benchmarks.serving import BARE, OURS, PEERS, SERVERS, ServerResult, compare

FAST = ServerResult(OURS, 16, 36.0, 20.0, 40.0, 0, 0, 700, 9.0, 300.0, 4.0)


def results(**changes):
    """Results that reach every target exactly, except for ``changes``; the peers have 3 and 2 requests per second."""
    ours = replace(FAST, **changes)
    others = [replace(FAST, server=name, requests_per_second=3.0 - index) for index, name in enumerate(PEERS)]
    return [replace(ours, clients=1), ours, replace(FAST, server=BARE, requests_per_second=45.0), *others]


def reached(rows):
    return [row["reached"] for row in compare(rows)]


def test_results_equal_to_the_targets_reach_them():
    assert reached(results()) == [True] * 5


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"p50_ms": 30.1}, 0),
        ({"p50_ms": None}, 0),
        ({"worker_memory_mib": 701.0}, 3),
        ({"ready_seconds": 10.1}, 4),
    ],
)
def test_each_target_is_missed_independently(changes, place):
    assert reached(results(**changes)) == [index != place for index in range(5)]


def test_throughput_is_compared_with_the_faster_peer_and_with_the_engine_alone():
    targets = compare(results(requests_per_second=35.9))
    assert [target["reached"] for target in targets] == [True, False, False, True, True]
    assert targets[1]["measured"] == "12.0 times"
    assert targets[2]["measured"] == "20%"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*MLflow doesn't validate the data:UserWarning")  # of a network without a signature
def test_every_server_is_measured_at_every_number_of_clients(tmp_path):
    serving.main(["--quick", "--out", str(tmp_path)])
    written = json.loads((tmp_path / "serving.json").read_text())
    rows = written["tables"]["load"]["rows"]
    assert [(row["server"], row["clients"]) for row in rows] == [(s, c) for s in SERVERS for c in (1, 4)]
    for row in rows:
        assert row["errors"] == 0, row
        assert row["requests"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["cpu_ms"] > 0
        assert 50 < row["worker_memory_mib"] < 4096
    assert {"flags", "load_average_before", "served_in", "versions"} <= set(written["settings"])
    assert written["measured"]["machine"]
    with Image.open(tmp_path / "serving.png") as chart:
        assert chart.width > 500
