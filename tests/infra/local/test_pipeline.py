"""Runs of the pipeline with a program in place of DVC that writes what DVC writes; through a pipe and a terminal."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from infra.local import members, pipeline, places
from infra.local.output import Bar
from infra.local.places import LocalError
from infra.local.progress import Progress
from tests.absent import ON_LINUX
from tests.waiting import wait_for

DVC = """#!{python}
import subprocess, sys, time

def stage(name, code):
    print(f"Running stage '{{name}}':\\n> pipelines/run {{name}}")
    if status := subprocess.call([sys.executable, "-c", code]):
        print(f"ERROR: failed to reproduce '{{name}}': exited with {{status}}", file=sys.stderr)
        raise SystemExit(255)
    print("Updating lock file 'dvc.lock'\\n")

print("Stage 'weights' didn't change, skipping")
print("Stage 'ingest' is cached - skipping run, checking out outputs")
stage("validate", "from tqdm import tqdm; [0 for _ in tqdm(range(3), desc='decode')]; print('200 pictures validated')")
stage("train", {train!r})
print("\\nTo track the changes with git, run:\\n\\n\\tgit add dvc.lock\\n\\nUse `dvc push` to send your updates")
"""
QUICK = "print('trained')"
FAILS = "print('a warning'); raise ValueError('no gradient')"
SLOW = "import time\nopen('begun', 'w').close()\ntry: time.sleep(60)\nfinally: open('ended', 'w').close()"
RUN = """
import sys
from pathlib import Path
from infra.local import places, pipeline
places.ROOT, places.BIN = Path({root!r}), Path({root!r})
try:
    for run in pipeline.repro():
        print(run.name, run.source)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.fixture
def dvc(root: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that makes the program, with the code of its stage ``train``."""
    monkeypatch.setattr(places, "BIN", root)

    def make(train: str) -> None:
        (root / "dvc").write_text(DVC.format(python=sys.executable, train=train))
        (root / "dvc").chmod(0o755)

    return make


def run_in(root: Path) -> list[str]:
    return [sys.executable, "-c", RUN.format(root=str(root))]


def on_a_terminal(command: list[str]) -> str:
    """Return what ``command`` writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": "80"}
    with subprocess.Popen(command, cwd=Path.cwd(), env=env, stdout=theirs, stderr=theirs, stdin=theirs) as child:
        os.close(theirs)
        text = b""
        with os.fdopen(ours, "rb", buffering=0) as reader:
            try:
                while data := reader.read(4096):
                    text += data
            except OSError:  # the terminal was closed
                pass
        assert child.wait(timeout=30) == 0, text
    return text.decode()


def lines(text: str) -> list[str]:
    """Return the lines with single blanks and without seconds."""
    return [re.sub(r" +", " ", re.sub(r"\d+ s ", "_ s ", line)).strip() for line in text.splitlines()]


def test_a_log_has_one_line_for_each_stage_with_its_seconds_and_what_it_printed(dvc, capsys):
    dvc(QUICK)
    runs = pipeline.repro()
    said = capsys.readouterr().out
    about = yaml.safe_load((places.ROOT / "dvc.yaml").read_text())["stages"]
    count = len(about)
    assert lines(said) == [
        f"[ 1/{count}] weights unchanged",
        f"[ 2/{count}] ingest from DVC's cache",
        f"[ 3/{count}] validate _ s {about['validate']['desc']}",
        "200 pictures validated",
        f"[ 4/{count}] train _ s {about['train']['desc']}",
        "trained",
    ]
    assert [(run.name, run.ran) for run in runs] == [
        ("weights", False),
        ("ingest", False),
        ("validate", True),
        ("train", True),
    ]
    assert "\r" not in said


def test_a_failed_stage_shows_its_whole_output_and_what_dvc_says(dvc, capsys):
    dvc(FAILS)
    with pytest.raises(LocalError, match=r"`dvc repro` ended with exit code 255; see above"):
        pipeline.repro()
    said = capsys.readouterr().out
    assert re.search(r"train +failed ", said)
    _, _, after = said.partition("failed ")
    assert "a warning\nTraceback (most recent call last):" in after
    assert "ValueError: no gradient\nERROR: failed to reproduce 'train': exited with 1\n" in after
    assert "git add" not in said


def test_a_terminal_shows_bar_and_clock_and_keeps_the_same_lines(root, dvc):
    dvc("import time\nfrom tqdm import tqdm\nfor _ in tqdm(range(2), desc='epochs', mininterval=0): time.sleep(1.2)")
    text = on_a_terminal(run_in(root))
    drawn = [part for part in re.split(r"\r\x1b\[K|\r\n", text) if "train" in part]
    assert any(re.search(r"train +0:0\d █{10}·{10}  epochs 50 %", part) for part in drawn), drawn
    assert len({part[:25] for part in drawn if "█" in part}) >= 2  # the clock moves
    assert all(len(part) < 80 for part in drawn)
    kept = [part.rpartition("\r\x1b[K")[2] for part in text.split("\r\n")]
    assert [line.split()[2] for line in kept if line.startswith("[")] == ["weights", "ingest", "validate", "train"]
    assert "train ran" in kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_the_stage_in_an_orderly_way(root, dvc, number):
    dvc(SLOW)
    code = f"""
import signal
for number in (signal.SIGINT, {int(number)}):  # the process that runs the tests may ignore SIGINT
    signal.signal(number, signal.default_int_handler)
""" + run_in(root)[2]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        for _ in range(300):
            if (root / "begun").exists():
                break
            time.sleep(0.1)
        child.send_signal(number)
        said = child.communicate(timeout=30)[0]
    assert said.endswith("stopped\n")
    assert (root / "ended").exists()


def test_seconds_without_a_moving_bar_are_counted():
    now = [0.0]
    progress = Progress({"train": "trains"}, clock=lambda: now[0])
    progress.line("Running stage 'train':")
    for at, percent in ((1, 0), (3, 10), (20, 11), (21, 11), (22, 12), (40, 12)):
        now[0] = float(at)
        progress.tick(Bar("epochs", percent))
    progress.end(failed=False)
    # From 3 to 20 and from 22 to the end; shorter pauses do not count.
    assert progress.stages[0].silent == 17 + 18
    assert progress.stages[0].seconds == 40


def test_a_long_stage_is_noted_in_a_log_once_a_minute(capsys):
    now = [0.0]
    progress = Progress({"attack": "attacks"}, clock=lambda: now[0])
    progress.line("Running stage 'attack':")
    for second in range(130):
        now[0] = float(second)
        progress.tick(Bar("attack", second // 2))
    assert lines(capsys.readouterr().out) == [
        "[ 1/1] attack _ s still runs: attack 30 %",
        "[ 1/1] attack _ s still runs: attack 60 %",
    ]


@ON_LINUX
def test_dvc_ends_when_the_command_that_started_it_is_killed(dvc, root: Path):
    dvc(f"open({str(root / 'begun')!r}, 'w').write(str(__import__('os').getppid())); import time; time.sleep(20)")
    with subprocess.Popen(run_in(root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
        wait_for(lambda: (root / "begun").is_file() and (root / "begun").read_text() != "", 60)
        command.kill()
    wait_for(lambda: members.began(int((root / "begun").read_text())) is None, 10)
