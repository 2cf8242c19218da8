"""The drills themselves: what they count, and one that is held on a real service, registry and killed promotion."""

import asyncio
import json
import shutil
import socket
import time
from pathlib import Path

import pytest
import yaml

from buckler.release.bundle import as_json
from buckler.trust import digests
from drills import __main__, load, report
from drills.registry import Builder, DrillError
from tests import projects


def test_a_drill_passes_only_if_everything_it_must_show_was_seen(tmp_path):
    good, bad = report.Drill("good", {"seconds": 1.5}), report.Drill("bad")
    good.require(True, "never said")
    bad.require(False, "3 requests failed")
    report.write([good, bad], tmp_path / "reports/drills.json", {"commit": "a"})
    report.write([report.Drill("bad")], tmp_path / "reports/drills.json", {"commit": "b"})
    assert json.loads((tmp_path / "reports/drills.json").read_text()) == {
        "drills": [
            {"name": "good", "passed": True, "figures": {"seconds": 1.5}, "failures": [], "commit": "a"},
            {"name": "bad", "passed": True, "figures": {}, "failures": [], "commit": "b"},
        ]
    }
    assert bad.as_json()["failures"] == ["3 requests failed"]


def test_the_table_has_a_row_for_each_figure_and_names_the_drill_once():
    drill = report.Drill("kill_worker", {"seconds_until_back": [2.0, 2.5], "failed": 0})
    assert report.table([drill]).rows == (
        {"drill": "kill worker", "passed": True, "figure": "seconds until back", "value": "[2.0, 2.5]"},
        {"drill": "", "passed": None, "figure": "failed", "value": 0},
    )


def answered(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answered("200 OK", b'{"model": {"version": "3"}}'), ("200", "", "3")),
        (answered("503 Service Unavailable", b'{"error": {"code": "overloaded"}}'), ("503", "overloaded", "")),
        (answered("200 OK", b'{"model": {"ver'), (load.LOST, "", "")),
        (b"", (load.LOST, "", "")),
    ],
)
def test_half_an_answer_is_a_lost_request(answer, expected):
    async def exchange() -> load.Exchange:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"--drill--\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await load.ask(server.sockets[0].getsockname()[1], load.request(), load.Load())

    found = asyncio.run(exchange())
    assert (found.status, found.code, found.version) == expected


def test_a_storm_does_not_wait_for_answers(monkeypatch):
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as deaf:
        began = time.monotonic()
        sent = load.storm(deaf.getsockname()[1], per_second=50, seconds=1)
    assert sent.statuses() == {load.LOST: 50}
    assert time.monotonic() - began < 5  # one after the other it would take 25


def test_a_project_whose_pipeline_has_not_run_is_told_what_to_do(tmp_path):
    with pytest.raises(DrillError, match="make demo"):
        Builder(tmp_path, tmp_path / "scratch")


@pytest.fixture
def trained(project: Path) -> Path:
    """A project with a real, small model and reports that pass."""
    from buckler.models.networks.base import HeadShape
    from buckler.models.networks.tiny import TINY
    from tests.unit.serving.test_selftest import save

    shutil.rmtree(project / "models")
    network = TINY.build(32, 2, head=HeadShape((16, 8)), seed=1)
    save(network, project / "models/classifier")
    (project / "models/detector").mkdir()
    for name in ("detector.npz", "detector.json"):
        (project / "models/classifier" / name).rename(project / "models/detector" / name)
    projects.write_reports(project / "reports", digests.directory_digest(project / "models/classifier"), 80, 40)
    policy = as_json(projects.POLICY)
    numbers = {
        name: {int(radius): floor for radius, floor in value.items()} if isinstance(value, dict) else value
        for name, value in policy.items()
    }
    (project / "params.yaml").write_text(yaml.safe_dump({"gate": numbers}))
    return project


@pytest.mark.slow
def test_drills_are_held_on_the_projects_model_and_their_figures_written(trained, capsys):
    arguments = ["--short", "--only", "kill_promotion", "--only", "swap", "--project", str(trained)]
    assert __main__.main([*arguments, "--report", "reports/drills-service.json"]) == 0
    held = json.loads((trained / "reports/drills-service.json").read_text())["drills"]
    kills, swap = held
    assert (kills["name"], kills["passed"], kills["figures"]["kills"]) == ("kill_promotion", True, 4)
    assert sum(kills["figures"]["states_seen"].values()) == 4
    assert set(kills["figures"]["states_seen"]) <= {"old", "new"}
    assert (swap["passed"], swap["figures"]["failed"], swap["figures"]["roll_backs_from_memory"]) == (True, 0, 2)
    assert "cores" in swap["machine"]
    assert "2 of 2 passed" in capsys.readouterr().out
