"""The process of one fuzzer: `python -m tests.fuzz.worker TARGET LAUNCHER`, with libFuzzer's options and folders.

It imports the target's code itself, instrumented, so that coverage guides the fuzzer.
"""

import logging
import resource
import sys
import time
from collections.abc import Callable

import atheris

from tests.fuzz.replay import peak, start_of_peak
from tests.fuzz.table import TARGETS, Target

_MEBIBYTE = 2**20
SLACK_MEBIBYTES = 512  # what libFuzzer and its corpus need


class Measured:
    """A target within its limits of processor time and memory.

    An input is run again, to measure its own memory, whenever the process needs more than ever before.
    """

    def __init__(self, target: Target, run: Callable[[bytes], bool]) -> None:
        self._target, self._run = target, run
        self._highest = 0

    def __call__(self, data: bytes) -> None:
        """Run one input.

        Raises:
            TimeoutError, MemoryError: It takes more than the target's limit.
        """
        started = time.process_time()
        self._run(data)
        seconds = time.process_time() - started
        if seconds > self._target.max_seconds:
            raise TimeoutError(f"expected at most {self._target.max_seconds} s, the input took {seconds:.1f} s")
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if highest <= self._highest:
            return
        before = start_of_peak()
        self._run(data)
        mebibytes = (peak() - before) / _MEBIBYTE
        if mebibytes > self._target.max_mebibytes:
            raise MemoryError(f"expected at most {self._target.max_mebibytes} MiB, the input took {mebibytes:.0f} MiB")
        self._highest = highest


def main() -> None:
    """Fuzz; libFuzzer ends the process."""
    target, (launcher, *options) = TARGETS[sys.argv[1]], sys.argv[2:]
    logging.disable(logging.WARNING)
    with atheris.instrument_imports(include=list(target.instrumented)):
        run = target.load()
        run(b"")
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + target.max_mebibytes + SLACK_MEBIBYTES
    mutator = target.mutator()
    more = {"custom_mutator": mutator} if mutator else {}
    # To minimise a corpus libFuzzer starts itself again, by the name that it was started with.
    atheris.Setup([launcher, f"-rss_limit_mb={limit}", *options], Measured(target, run), **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
