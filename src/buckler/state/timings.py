"""How long the last runs of the stages took: ``reports/timings.json``.

Times differ from run to run, so they are in no report and no stage depends on this file. A stage whose results came
from DVC's cache keeps the times of its last run here, or has none.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic

from buckler.state import files

FILE = "timings.json"


@dataclass(frozen=True, slots=True)
class StageTime:
    """Wall-clock seconds of a stage's last run, when it ended (ISO time), and on which machine."""

    seconds: float
    finished_at: str
    machine: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Times of the last runs.

    Attributes:
        stages: By the stage's name.
        attacks: Line of the suite and radius, as ``pgd@2`` -> seconds of crafting and scoring, also of parts that an
            earlier run computed.
    """

    stages: dict[str, StageTime] = field(default_factory=dict)
    attacks: dict[str, float] = field(default_factory=dict)


_ADAPTER = pydantic.TypeAdapter(Timings)


def read(reports: Path) -> Timings:
    """Return the times in the directory ``reports``; none if the file is missing or damaged: nothing depends on it."""
    try:
        return _ADAPTER.validate_json((reports / FILE).read_bytes())
    except (OSError, ValueError):
        return Timings()


def record_stage(reports: Path, stage: str, seconds: float, machine: str) -> None:
    """Record that ``stage`` has just ended after ``seconds``."""
    ended = StageTime(round(seconds, 1), datetime.now(UTC).isoformat(timespec="seconds"), machine)
    before = read(reports)
    _write(reports, replace(before, stages={**before.stages, stage: ended}))


def record_attacks(reports: Path, seconds: dict[str, float]) -> None:
    """Record the seconds of the attacks of a suite, which replace those of the last suite."""
    _write(reports, replace(read(reports), attacks={cell: round(value, 1) for cell, value in seconds.items()}))


def _write(reports: Path, timings: Timings) -> None:
    content: Any = _ADAPTER.dump_json(timings, indent=2)
    reports.mkdir(parents=True, exist_ok=True)
    files.write(reports / FILE, content + b"\n", mode=files.SHARED)
