"""Results of drills: measured figures and failed requirements."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import CellValue, Column, Table


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack of a drill and its result.

    Attributes:
        name: What the attacker did.
        stopped_by: Who refused it; empty if nobody did.
        code: The reason code or the words of the refusal; what happened instead, if there was none.
        seconds: From the attack to the refusal; None where it is not measured.
    """

    name: str
    stopped_by: str
    code: str
    seconds: float | None = None


@dataclass
class Drill:
    """The results of one drill.

    Attributes:
        figures: Numbers and short texts by name.
        failures: One sentence for each failed requirement; empty means passed.
        attacks: In a drill of an attacker, each attack.
    """

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    attacks: list[Attack] = field(default_factory=list)

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
        entry = {"name": self.name, "passed": self.passed, "figures": self.figures, "failures": self.failures}
        return entry | {"attacks": [asdict(attack) for attack in self.attacks]} if self.attacks else entry


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


def tables(drills: Sequence[Drill]) -> dict[str, Table]:
    """Return the tables of a suite's results: the figures, and the attacks if there are any."""
    attacks = {"attacks": attack_table(drills)} if any(drill.attacks for drill in drills) else {}
    return {"figures": table(drills), **attacks}


def attack_table(drills: Sequence[Drill]) -> Table:
    """Return one row per attack; only the first row of a drill names it."""
    columns = (
        Column("drill", "attacker"),
        Column("attack", "attack"),
        Column("stopped_by", "stopped by"),
        Column("code", "code"),
        Column("seconds", "seconds", ".1f"),
    )
    rows: list[dict[str, CellValue]] = []
    for drill in drills:
        name = drill.name.replace("_", " ")
        for attack in drill.attacks:
            cells = {"attack": attack.name, "stopped_by": attack.stopped_by or "nobody", "code": attack.code}
            rows.append({"drill": name, **cells, "seconds": attack.seconds})
            name = ""
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
