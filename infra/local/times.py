"""Where the time of a demo went."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from infra.local.progress import StageRun

PIPELINE = "pipeline"
TOTAL = "pictures to served answers"  # README quotes the row of this name
LISTED_SECONDS = 10  # shorter stages share a line


class Clock:
    """Measures the steps of a demo from its construction on.

    Attributes:
        steps: Seconds of each finished step.
    """

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._began = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print the title of a step and measure it."""
        print(f"\n== {title}", flush=True)
        began = time.monotonic()
        yield
        self.steps[title] = time.monotonic() - began

    def stop(self) -> None:
        """Measure the total, which becomes the last step."""
        self.steps[TOTAL] = time.monotonic() - self._began


def table(steps: Mapping[str, float], stages: Sequence[StageRun]) -> Iterator[str]:
    """Yield lines: each step, and below the pipeline its long stages and the sum of the others."""
    yield f"  {'':<30} {'seconds':>8} {'without a moving bar':>22}"
    for step, seconds in steps.items():
        if step == PIPELINE:
            yield _line(step, seconds, sum(stage.silent for stage in stages))
            yield from _stages(stages)
        else:
            yield _line(step, seconds)


def rows(steps: Mapping[str, float], stages: Sequence[StageRun]) -> Iterator[dict[str, str | float]]:
    """Yield a row of cells for each stage and each step, as `benchmarks.demo` writes them."""
    for stage in stages:
        silent = {"silent": round(stage.silent, 1)} if stage.ran else {"source": stage.source}
        yield {"step": f"stage {stage.name}", "seconds": round(stage.seconds, 1), **silent}
    for step, seconds in steps.items():
        yield {"step": step, "seconds": round(seconds, 1)}


def _stages(stages: Sequence[StageRun]) -> Iterator[str]:
    long = [stage for stage in stages if stage.seconds >= LISTED_SECONDS]
    for stage in sorted(long, key=lambda stage: -stage.seconds):
        yield _line(f"  {stage.name}", stage.seconds, stage.silent)
    short = [stage for stage in stages if stage not in long]
    if short:
        skipped = sum(not stage.ran for stage in short)
        title = f"  {len(short)} other stages" + (f", {skipped} not run again" if skipped else "")
        yield _line(title, sum(stage.seconds for stage in short), sum(stage.silent for stage in short))


def _line(step: str, seconds: float, silent: float | None = None) -> str:
    return f"  {step:<30} {seconds:>8.0f} {'' if silent is None else f'{silent:.0f}':>22}".rstrip()
