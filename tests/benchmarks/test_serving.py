"""The serving benchmark for real, as small as it gets, and its verdicts on results made up by hand."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import closed_loop
from benchmarks.serving import BARE, OURS, PEERS, SERVERS, Result, compare

ROOT = Path(__file__).resolve().parents[2]
FAST = Result(OURS, 16, 36.0, 20.0, 40.0, 0, 700, 9.0, 300.0, 4.0)


def results(**changes):
    """Ours as ``changes`` say, just within every target otherwise; the peers at 3 and 2 requests a second."""
    ours = replace(FAST, **changes)
    others = [replace(FAST, server=name, requests_per_second=3.0 - index) for index, name in enumerate(PEERS)]
    return [replace(ours, clients=1), ours, replace(FAST, server=BARE, requests_per_second=45.0), *others]


def reached(rows):
    return [row["reached"] for row in compare(rows)]


def test_a_service_at_the_very_targets_reaches_them():
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
def test_each_target_is_missed_for_itself(changes, place):
    assert reached(results(**changes)) == [index != place for index in range(5)]


def test_throughput_is_held_to_the_faster_peer_and_to_the_engine_alone():
    targets = compare(results(requests_per_second=35.9))
    assert [target["reached"] for target in targets] == [True, False, False, True, True]
    assert targets[1]["measured"] == "12.0 times"
    assert targets[2]["measured"] == "20%"


@pytest.fixture
def server():
    """Answers every third request with 503."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            asked.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(503 if len(asked) % 3 == 0 else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


def test_the_closed_loop_counts_every_answer_and_sends_every_body(server):
    port, asked = server
    requests = [closed_loop.post("/", "text/plain", body) for body in (b"a", b"b", b"c")]
    load = closed_loop.ask(port, requests, clients=2, seconds=0.5)
    assert len(load.latencies) + load.errors == len(asked) > 10
    assert load.errors == len(asked) // 3
    assert set(asked) == {b"a", b"b", b"c"}
    assert all(0 < latency < load.seconds for latency in load.latencies)


def test_a_server_that_is_gone_is_an_error_and_no_answer(server):
    port, _ = server
    nobody = closed_loop.ask(1, [closed_loop.post("/", "text/plain", b"a")], clients=2, seconds=0.1)
    assert nobody.latencies == ()
    assert nobody.errors > 0
    assert closed_loop.ask(port, [closed_loop.post("/", "text/plain", b"a")], clients=1, seconds=0.1).latencies


@pytest.mark.slow
def test_every_server_is_measured_at_every_number_of_clients(tmp_path):
    command = [sys.executable, "-m", "benchmarks.serving", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
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
