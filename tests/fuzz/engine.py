"""Starts fuzzers, one process for each target, and reads what they report."""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from tests.fuzz.replay import name_of, reproduce
from tests.fuzz.table import Target

STATE = Path(".buckler/fuzz")
LONGEST_WALL_SECONDS = 60  # of one input; `max_seconds` is processor time, and other processes may use the processor
LARGEST_COMMITTED = 4096  # bytes of one input in the corpus
_FINDINGS = ("crash-*", "timeout-*", "oom-*", "leak-*")
_STATUS = re.compile(rb"cov: (\d+) ft: (\d+) corp: (\d+)")
_EXECUTIONS = re.compile(rb"stat::number_of_executed_units: +(\d+)")
_STEP = re.compile(rb"^#(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Run:
    """What one fuzzer did.

    Attributes:
        target: Name of the target.
        seconds: Time for which it ran.
        executions: Inputs that it ran.
        edges: Branches of the instrumented code that inputs reached.
        features: Branches, told apart by how often they were passed, and results of comparisons.
        corpus: Inputs that the fuzzer keeps, since each reaches a feature that no other does.
        committed: Inputs in the committed corpus.
        findings: Files with the inputs that failed; the first one ends the run.
        log: The fuzzer's output.
    """

    target: str
    seconds: int
    executions: int
    edges: int
    features: int
    corpus: int
    committed: int
    findings: tuple[Path, ...]
    log: Path

    def __str__(self) -> str:
        rate = self.executions / max(1, self.seconds)
        text = (
            f"{self.target}: {self.executions} inputs in {self.seconds} s ({rate:.0f}/s), {self.edges} branches,"
            f" {self.features} features, {self.corpus} inputs kept, {len(self.findings)} findings ({self.log})"
        )
        return "\n".join([text, *(f"  reproduce it with: {reproduce(self.target, path)}" for path in self.findings)])


def fuzz(target: Target, seconds: int, *, corpus: Path = STATE, seed: int = 1) -> Run:
    """Fuzz one target.

    Args:
        target: The target.
        seconds: Time.
        corpus: Folder for the state of all targets: new inputs, findings, the log.
        seed: Seed of the fuzzer.
    """
    place = corpus / target.name
    grown, found = place / "corpus", place / "findings"
    for folder in (grown, found, target.corpus):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(_found(found))
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={LONGEST_WALL_SECONDS}",
        f"-max_len={target.max_bytes}",
        f"-artifact_prefix={found}/",
        f"-dict={_dictionary(target, place)}",
        f"-seed={seed}",
        "-print_final_stats=1",
    ]
    log, started = place / "log.txt", time.monotonic()
    _started(target, place, [*options, str(grown), str(target.corpus)], log)
    content = log.read_bytes()
    edges, features, kept = (int(each) for each in (_STATUS.findall(content) or [(0, 0, 0)])[-1])
    executions = _EXECUTIONS.findall(content) or _STEP.findall(content) or [0]
    if not _STATUS.search(content):
        raise RuntimeError(f"expected a fuzzer's report in {log}, it ends:\n{content[-2000:].decode(errors='replace')}")
    return Run(
        target=target.name,
        seconds=round(time.monotonic() - started),
        executions=int(executions[-1]),
        edges=edges,
        features=features,
        corpus=kept,
        committed=len(list(target.corpus.iterdir())),
        findings=tuple(sorted(set(_found(found)) - before)),
        log=log,
    )


def minimise(target: Target, corpus: Path = STATE) -> int:
    """Add to the committed corpus as few inputs as reach all that the fuzzer reached; return their number."""
    place = corpus / target.name
    merged = place / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    shutil.copytree(target.corpus, merged)
    # Without counters: an input that only passes a branch more often is not kept.
    options = ["-merge=1", "-use_counters=0", f"-max_len={min(target.max_bytes, LARGEST_COMMITTED)}"]
    _started(target, place, [*options, str(merged), str(place / "corpus")], place / "merge.txt")
    new = [path for path in sorted(merged.iterdir()) if not (target.corpus / path.name).exists()]
    for path in new:
        content = path.read_bytes()
        (target.corpus / name_of(content)[:12]).write_bytes(content)
    return len(new)


def _started(target: Target, place: Path, arguments: list[str], log: Path) -> None:
    """Run a fuzzer to its end, with its output in ``log``."""
    launcher = place / "start"
    launcher.write_text(f'#!/bin/sh\nexec {quote(sys.executable)} -m tests.fuzz.worker {target.name} "$0" "$@"\n')
    launcher.chmod(0o755)
    with log.open("wb") as file:
        subprocess.run([launcher.absolute(), *arguments], stdout=file, stderr=subprocess.STDOUT)


def _found(folder: Path) -> list[Path]:
    return [path for pattern in _FINDINGS for path in folder.glob(pattern)]


def _dictionary(target: Target, place: Path) -> Path:
    """Write the words of a target as libFuzzer reads them."""
    path = place / "words.txt"
    lines = ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words if len(word) <= 64)
    path.write_text("".join(lines))
    return path
