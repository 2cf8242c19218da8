"""Runs inputs through a target, without a fuzzer, and checks its limits of processor time and memory."""

import hashlib
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.table import Target

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that a parser treats against its contract."""

    target: str
    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.problem.rstrip()}\nreproduce it with: {reproduce(self.target, self.path)}"


def reproduce(target: str, path: Path) -> str:
    """Return the command that runs one input."""
    return f"python -m tests.fuzz {target} {path}"


def inputs(path: Path) -> list[Path]:
    """Return the file ``path``, or the files in the directory ``path``, sorted."""
    return sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]


def replay(target: Target, paths: Iterable[Path]) -> Iterator[Finding]:
    """Yield a finding for each input that fails or exceeds a limit."""
    run = target.load()
    run(b"")  # imports and first uses are not the input's
    for path in paths:
        data = path.read_bytes()
        started, before = time.process_time(), start_of_peak()
        try:
            run(data)
        except Exception:
            yield Finding(target.name, path, traceback.format_exc())
            continue
        seconds, mebibytes = time.process_time() - started, (peak() - before) / _MEBIBYTE
        if seconds > target.max_seconds:
            yield Finding(target.name, path, f"expected at most {target.max_seconds} s, it took {seconds:.1f} s")
        if mebibytes > target.max_mebibytes:
            yield Finding(
                target.name, path, f"expected at most {target.max_mebibytes} MiB, it took {mebibytes:.0f} MiB"
            )


def name_of(data: bytes) -> str:
    """Return the name that libFuzzer gives an input: its SHA-1."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def start_of_peak() -> int:
    """Forget the highest memory of this process so far; return the memory that it has now, in bytes."""
    _RESET.write_text("5")
    return peak()


def peak() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
