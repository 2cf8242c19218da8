"""Results of drills: measured figures and failed requirements."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import CellValue, Column, Table


@dataclass
class Drill:
    """The results of one drill.

    Attributes:
        figures: Numbers and short texts by name.
        failures: One sentence for each failed requirement; empty means passed.
    """

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def require(self, holds: bool, failure: str) -> None:
        """Add ``failure`` to the failures unless ``holds``."""
        if not holds:
            self.failures.append(failure)

    @property
    def passed(self) -> bool:
        """Return whether no requirement failed."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return the drill's entry in the report."""
        return {"name": self.name, "passed": self.passed, "figures": self.figures, "failures": self.failures}


def table(drills: Sequence[Drill]) -> Table:
    """Return one row per figure; only the first row of a drill names it and says whether it passed."""
    columns = (
        Column("drill", "drill"),
        Column("passed", "passed"),
        Column("figure", "figure"),
        Column("value", "value", ","),
    )
    rows: list[dict[str, CellValue]] = []
    for drill in drills:
        head: dict[str, CellValue] = {"drill": drill.name.replace("_", " "), "passed": drill.passed}
        for name, value in drill.figures.items() or [("", None)]:
            number = isinstance(value, (bool, int, float, str)) or value is None
            shown = value if number else json.dumps(value)
            rows.append({**head, "figure": name.replace("_", " "), "value": shown})
            head = {"drill": "", "passed": None}
    return Table(columns, tuple(rows))


def write(drills: Sequence[Drill], path: Path, where: Mapping[str, Any]) -> None:
    """Write the report; earlier results of other drills are kept.

    Args:
        drills: Results of this run.
        path: Path of the report.
        where: Machine and commit, added to each drill.
    """
    try:
        before = {drill["name"]: drill for drill in json.loads(path.read_text(encoding="utf-8"))["drills"]}
    except (OSError, ValueError, KeyError):
        before = {}
    merged = before | {drill.name: {**drill.as_json(), **where} for drill in drills}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"drills": list(merged.values())}, indent=2) + "\n", encoding="utf-8")
