"""Every query of rules and dashboards, with the metrics it reads."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
PROMETHEUS = MONITORING / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
DASHBOARDS = sorted((MONITORING / "grafana/dashboards").glob("*.json"))


@dataclass(frozen=True)
class Query:
    """One expression and the rule or panel that contains it."""

    place: str
    expr: str
    alerts: bool = False

    @property
    def names(self) -> set[str]:
        """Metrics and recorded series that the expression reads."""
        without_labels = re.sub(r"\{[^}]*\}", "", self.expr)
        return set(re.findall(r"\b(?:[a-z]+:)?buckler_[a-z0-9_:]+", without_labels))

    @property
    def shown(self) -> str:
        """The query in a form that returns data whenever its metrics exist.

        A quiet alert returns no data. Its comparisons therefore return 0 or 1 here, so that a result shows that both
        sides exist. Offsets are removed, because no data is hours old.
        """
        if not self.alerts:
            return self.expr.replace("$__rate_interval", "1m")
        compared = re.sub(r"(?<=\s)(==|!=|>=|<=|>|<)(?=\s)", r"\1 bool", self.expr)
        return re.sub(r" offset \w+", "", compared)


def rules(kind: str) -> list[dict[str, Any]]:
    """Return all rules of ``kind``: ``alert`` or ``record``."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield dashboard and title of every panel with its JSON; rows are left out, as they have no query."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                yield f"{path.stem}: {panel['title']}", panel


def queries() -> list[Query]:
    """Return the queries of all rules and panels."""
    found = [Query(f"rule: {rule['alert']}", rule["expr"], alerts=True) for rule in rules("alert")]
    found += [Query(f"rule: {rule['record']}", rule["expr"]) for rule in rules("record")]
    for place, panel in panels():
        found += [Query(f"{place}: {target['refId']}", target["expr"]) for target in panel["targets"]]
    return found
