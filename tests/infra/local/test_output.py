"""The output of a real tqdm and of DVC, as bytes."""

import subprocess
import sys

import pytest

from infra.local.output import Bar, Output

BARS = """
import sys, time
from tqdm import tqdm
print("before", flush=True)
for step in tqdm(range(4), desc="decode test", unit="picture", mininterval=0):
    if step == 2:
        print("in between", file=sys.stderr, flush=True)
with tqdm(total=8, desc="attack: all", mininterval=0) as bar:
    bar.update(2)
    bar.set_postfix_str("pgd@1 55.0 % of 60")
    bar.update(2)
    sys.stderr.flush()
print("after", flush=True)
"""


def test_bars_of_tqdm_are_told_apart_from_lines():
    done = subprocess.run(
        [sys.executable, "-c", BARS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=True
    )
    output = Output()
    assert output.feed(done.stdout) == ["before", "in between", "after"]
    assert output.bar is None


def test_spaces_that_cover_a_longer_bar_are_not_part_of_the_message_behind_it():
    bars = b"\rdecode:  25%|##   | 1/4 [00:00<00:00, 17.25it/s]\rdecode:  50%|###  | 2/4 [00:00<?, ?it/s]    "
    assert Output().feed(bars + b"in between\n") == ["in between"]


def test_the_bar_at_the_end_of_the_output_is_known_however_the_bytes_are_divided():
    text = "\rdecode test:   0%|          | 0/4 [00:00<?, ?picture/s]\rdecode test:  50%|█████     | 2/4 [00:01<00:01]"
    for cut in range(len(text.encode())):
        output = Output()
        lines = output.feed(text.encode()[:cut]) + output.feed(text.encode()[cut:])
        assert (lines, output.bar) == ([], Bar("decode test", 50))
    assert output.feed(b"\nnext") == []
    assert output.bar is None
    assert output.end() == ["next"]


@pytest.mark.parametrize(
    "line",
    [
        "Updating lock file 'dvc.lock'",
        "Generating lock file 'dvc.lock'",
        "> pipelines/run train",
        "To track the changes with git, run:",
        "\tgit add dvc.lock",
        "\tdvc config core.autostage true",
        "Use `dvc push` to send your updates to remote storage.",
        "Created version '1' of model 'skin-lesion'.",
        "",
    ],
)
def test_messages_that_lead_nowhere_are_left_out(line):
    assert Output().feed(f"{line}\n".encode()) == []


@pytest.mark.parametrize(
    "line", ["ERROR: failed to reproduce 'train'", "error: params.yaml: 100 % wrong", "Running stage 'train':", "a | b"]
)
def test_other_lines_are_kept(line):
    assert Output().feed(f"{line}\n".encode()) == [line]


def test_bytes_that_are_no_text_do_not_stop_it():
    assert Output().feed(b"\xff\xfe\n") == ["��"]
