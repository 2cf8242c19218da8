"""Results of a drill: figures, and whether each requirement was met."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import Cell, Column, Table


@dataclass
class Drill:
    """One drill's figures, and what it did not show.

    Attributes:
        figures: Numbers and short texts by name.
        failures: A sentence for each requirement that does not hold; empty means passed.
    """

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def require(self, holds: bool, what: str) -> None:
        """Note ``what`` as a failure unless it holds."""
        if not holds:
            self.failures.append(what)

    @property
    def passed(self) -> bool:
        """Return whether all requirements were met."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return the drill's entry in the report."""
        return {"name": self.name, "passed": self.passed, "figures": self.figures, "failures": self.failures}


def table(drills: Sequence[Drill]) -> Table:
    """Return a row for each figure; the drill and whether it passed are in its first row."""
    columns = (
        Column("drill", "drill"),
        Column("passed", "passed"),
        Column("figure", "figure"),
        Column("value", "value", ","),
    )
    rows: list[dict[str, Cell]] = []
    for drill in drills:
        head: dict[str, Cell] = {"drill": drill.name.replace("_", " "), "passed": drill.passed}
        for name, value in drill.figures.items() or [("", None)]:
            number = isinstance(value, (bool, int, float, str)) or value is None
            shown = value if number else json.dumps(value)
            rows.append({**head, "figure": name.replace("_", " "), "value": shown})
            head = {"drill": "", "passed": None}
    return Table(columns, tuple(rows))


def write(drills: Sequence[Drill], path: Path, where: Mapping[str, Any]) -> None:
    """Write the report; drills that were not held this time stay in it as they are.

    Args:
        drills: Those that were held.
        path: Of the report.
        where: Machine and commit that they were held on; stands beside each.
    """
    try:
        before = {drill["name"]: drill for drill in json.loads(path.read_text(encoding="utf-8"))["drills"]}
    except (OSError, ValueError, KeyError):
        before = {}
    merged = before | {drill.name: drill.as_json() | where for drill in drills}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"drills": list(merged.values())}, indent=2) + "\n", encoding="utf-8")
