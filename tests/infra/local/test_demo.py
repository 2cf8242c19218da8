"""The demo's way from its steps to its end, with small servers and without a model; `tests/pipelines` runs it whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import demo, pipeline, ports, processes, servers, times
from infra.local.places import LocalError
from infra.local.progress import RAN, StageRun
from infra.local.times import PIPELINE, TOTAL

# Servers outlive the object that started them, as they outlive the command.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
STAGES = [
    StageRun("weights", "unchanged"),
    StageRun("train", RAN, seconds=31.4, silent=8.2),
    StageRun("split", RAN, seconds=2.0),
    StageRun("attack", RAN, seconds=60.0),
]


@pytest.fixture
def steps(root: Path, pages, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that the demo calls; the pipeline has the stages `STAGES`."""
    called: list[str] = []
    monkeypatch.setattr(pipeline, "repro", lambda: STAGES)
    monkeypatch.setattr(demo, "_call", lambda *command: called.append(" ".join(map(str, command))))
    return called


def runs() -> bool:
    return all(processes.running(name) for name in ("service", "console"))


def test_a_demo_in_a_log_stops_what_it_started(steps, capsys):
    demo.run(stop=True, out=None)
    assert not processes.running("service")
    assert "success: the servers are stopped; `make up` starts them" in capsys.readouterr().out


def test_a_demo_on_a_terminal_leaves_the_servers_running_and_says_what_to_do_next(steps, taken, capsys):
    with taken(ports.current()["console"]):
        demo.run(stop=False, out=None)
        said, console = capsys.readouterr().out, ports.current()["console"]
    assert runs()
    assert [step.split()[-1] for step in steps] == ["promote", f"http://127.0.0.1:{ports.current()['service']}"]
    _, _, following = said.partition("Next:\n")
    assert [line.split("  ")[1] for line in following.splitlines()] == [
        "look at the console",
        "try your own pictures",
        "stop the servers",
    ]
    assert f"http://127.0.0.1:{console}/\n" in following


def test_servers_that_ran_before_run_on_after_a_demo_that_stops_its_own(steps):
    servers.up()
    demo.run(stop=True, out=None)
    assert runs()


def test_a_demo_that_fails_stops_what_it_started(steps, monkeypatch):
    def fails(*command: object) -> None:
        if "infra.local.story" in command:
            raise LocalError("no answer")

    monkeypatch.setattr(demo, "_call", fails)
    with pytest.raises(LocalError, match="no answer"):
        demo.run(stop=False, out=None)
    assert not processes.running("service")


def test_the_times_name_long_stages_and_sum_up_short_ones():
    lines = list(times.table({PIPELINE: 95.0, "promote": 4.0, TOTAL: 99.0}, STAGES))
    assert [line.split() for line in lines[1:]] == [
        ["pipeline", "95", "8"],
        ["attack", "60", "0"],
        ["train", "31", "8"],
        ["2", "other", "stages,", "1", "not", "run", "again", "2", "0"],
        ["promote", "4"],
        ["pictures", "to", "served", "answers", "99"],
    ]


def test_the_document_has_every_stage_and_the_row_that_the_readme_quotes(steps, root, tmp_path):
    (root / "reports/ask").mkdir(parents=True)
    (root / "reports/ask/story.txt").write_text("1  a picture\n\n2  the same\n")
    demo.run(stop=True, out=tmp_path / "results")
    from benchmarks import results

    tables = results.read(tmp_path / "results/demo.json").tables
    rows = {row["step"]: row for row in tables["time"].rows}
    assert [row["line"] for row in tables["story"].rows] == ["1  a picture", "", "2  the same"]
    assert rows["stage train"] == {"step": "stage train", "seconds": 31.4, "silent": 8.2}
    assert rows["stage weights"]["source"] == "unchanged"
    assert rows[TOTAL]["seconds"] >= rows["start the servers"]["seconds"] > 0


def test_an_interrupted_up_stops_what_it_started_and_says_so(root: Path, tmp_path: Path):
    """A real process: its servers never answer, and it gets SIGTERM while it waits for them."""
    code = f"""
import os, signal, sys, threading
from pathlib import Path
from infra.local import __main__, places, processes, servers
places.ROOT = Path({str(root)!r})
servers.described = lambda at: [processes.Process("service", ["sleep", "60"], at["service"], "/", {{}})]
threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
sys.argv = ["infra.local", "up"]
__main__.main()
"""
    project = Path(__file__).parents[3]  # from which `infra` is imported
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "\ninterrupted: finished stages are kept, the next run resumes there\n"
    assert not list((root / ".buckler/run").glob("*.pid"))
