"""One line for each stage of the pipeline: shows them as they run, and measures them."""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.local.output import STAGE, Bar

SILENCE_SECONDS = 5  # a bar that stands still for longer counts as no bar
NOTE_SECONDS = 60  # between two notes about a long stage in a log
BAR_WIDTH = 20

RAN = "ran"
_SOURCES = {":": RAN, " is cached": "from DVC's cache", " didn't change": "unchanged"}


@dataclass
class StageRun:
    """One stage of a run.

    Attributes:
        source: Where its results come from: it `RAN`, or why it did not.
        seconds: Wall-clock time, with the start of Python and DVC's storing of the results.
        silent: Those of the seconds in which no progress bar moved.
        lines: What it printed.
    """

    name: str
    source: str
    seconds: float = 0.0
    silent: float = 0.0
    lines: list[str] = field(default_factory=list)

    @property
    def ran(self) -> bool:
        """Return whether it computed its results."""
        return self.source == RAN


class Progress:
    """Shows a run of the pipeline: on a terminal with a bar and a clock, in a log with a note now and then.

    Attributes:
        stages: The stages so far; the last one runs.
    """

    def __init__(self, descriptions: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        """Start before the first stage.

        Args:
            descriptions: What each stage of the pipeline does, by its name.
            clock: Monotonic clock in seconds.
        """
        self.stages: list[StageRun] = []
        self._descriptions, self._clock = descriptions, clock
        self._live = sys.stdout.isatty()
        self._before: list[str] = []  # lines before the first stage
        self._began = self._moved = self._noted = clock()
        self._bar: Bar | None = None

    def line(self, text: str) -> None:
        """Take a line of the output."""
        if found := STAGE.match(text):
            self._close()
            self.stages.append(StageRun(found["name"], _SOURCES[found["skipped"]]))
            self._began = self._moved = self._noted = self._clock()
        else:
            (self.stages[-1].lines if self.stages else self._before).append(text)

    def tick(self, bar: Bar | None) -> None:
        """Take the current bar, if there is one, and draw the line of the running stage."""
        now = self._clock()
        if bar is not None and bar != self._bar:
            self._count_silence(now)
        self._bar = bar
        if self._live:
            self._draw(now)
        elif self.stages and now - self._noted >= NOTE_SECONDS:
            self._noted = now
            print(self._head(f"{now - self._began:.0f} s") + f"  still runs{_described(bar)}", flush=True)

    def end(self, *, failed: bool) -> None:
        """Finish the last stage; print everything that it and DVC printed if it ``failed``."""
        self._close(failed=failed)

    def interrupted(self) -> None:
        """Leave the line of the running stage, for a message."""
        if self._live:
            print(f"\r\x1b[K{self._head('interrupted')}" if self.stages else "\r\x1b[K")

    def _count_silence(self, now: float) -> None:
        if self.stages and now - self._moved > SILENCE_SECONDS:
            self.stages[-1].silent += now - self._moved
        self._moved = now

    def _close(self, *, failed: bool = False) -> None:
        """Print the line of the last stage, and what it printed."""
        now = self._clock()
        lines = self._before
        if self._live:
            print("\r\x1b[K", end="")
        if self.stages:
            stage = self.stages[-1]
            self._count_silence(now)
            stage.seconds, lines = now - self._began, stage.lines
            took = "failed" if failed else f"{stage.seconds:.0f} s" if stage.ran else ""
            said = self._descriptions.get(stage.name, "") if stage.ran else stage.source
            print(self._fitted(f"{self._head(took)}  {said}"), flush=True)
        for line in lines:
            print(line if failed else f"{'':9}{line}", flush=True)
        self._before = []

    def _draw(self, now: float) -> None:
        if not self.stages:
            text = "the pipeline starts ..."
        else:
            clock = f"{int(now - self._began) // 60:2}:{int(now - self._began) % 60:02}"
            filled = BAR_WIDTH * self._bar.percent // 100 if self._bar else 0
            drawn = "█" * filled + "·" * (BAR_WIDTH - filled) if self._bar else " " * BAR_WIDTH
            said = _described(self._bar).removeprefix(": ") or self._descriptions.get(self.stages[-1].name, "")
            text = f"{self._head(clock)} {drawn}  {said}"
        print(f"\r\x1b[K{self._fitted(text)}", end="", flush=True)

    def _head(self, took: str) -> str:
        count = len(self._descriptions)
        return f"[{len(self.stages):2}/{count}] {self.stages[-1].name:<10} {took:>6}"

    def _fitted(self, text: str) -> str:
        """Return ``text``, cut to the width of a terminal: a line that wraps cannot be drawn again."""
        if not self._live:
            return text
        width = shutil.get_terminal_size().columns - 1
        return text if len(text) <= width else text[: width - 1] + "…"


def _described(bar: Bar | None) -> str:
    return f": {bar.title} {bar.percent} %" if bar else ""
