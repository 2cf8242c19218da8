"""Runs `dvc repro` with a line for each stage; what a stage prints follows its line."""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import yaml

from infra.local import places
from infra.local.output import Output
from infra.local.places import LocalError
from infra.local.progress import Progress, StageRun

PR_SET_PDEATHSIG = 1  # of Linux
STOP_SECONDS = 20  # after which an interrupted stage is killed


def repro() -> list[StageRun]:
    """Run the pipeline and return its stages in the order in which they ran.

    Raises:
        LocalError: A stage failed; its whole output has been printed.
    """
    progress = Progress(_descriptions())
    with subprocess.Popen(
        [places.BIN / "dvc", "repro"],
        cwd=places.ROOT,
        # Stages draw bars although their output is a pipe: `Output` reads them.
        env=places.environment() | {"PYTHONUNBUFFERED": "1", "TQDM_DISABLE": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        # Ctrl-C reaches this process alone, which then ends DVC and its stage in an orderly way.
        start_new_session=True,
        preexec_fn=_end_with_parent,
    ) as child:
        try:
            _follow(child, progress)
        except BaseException:
            progress.interrupted()
            raise
        finally:
            _interrupt(child)
    progress.end(failed=child.returncode != 0)
    if child.returncode:
        raise LocalError(f"`dvc repro` ended with exit code {child.returncode}; see above")
    return progress.stages


def _end_with_parent() -> None:
    """Have the kernel end DVC, and so its stage, when this process is killed; other systems than Linux cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _descriptions() -> dict[str, str]:
    stages = yaml.safe_load((places.ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: stage["desc"] for name, stage in stages.items()}


def _follow(child: "subprocess.Popen[bytes]", progress: Progress) -> None:
    output = Output()
    for data in _chunks(child):
        for line in output.feed(data):
            progress.line(line)
        progress.tick(output.bar)
    for line in output.end():
        progress.line(line)
    child.wait()


def _chunks(child: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """Yield the output of ``child`` as it comes, and nothing once a second while none comes."""
    assert child.stdout  # noqa: S101
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=1):
                yield b""
            elif data := os.read(child.stdout.fileno(), 1 << 16):
                yield data
            else:
                return


def _interrupt(child: "subprocess.Popen[bytes]") -> None:
    """Interrupt DVC and its stage if they still run, and wait until they have ended."""
    if child.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
    try:
        child.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
