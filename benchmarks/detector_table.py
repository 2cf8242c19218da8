"""Prints reports/detector.json as tables: what is flagged that should not be, what is told, and what gets past."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from buckler.compute.machine import machine
from buckler.release import bundle

REPORT = Path("reports/detector.json")


def table(report: Mapping[str, Any]) -> str:
    """Return the tables in Markdown."""
    return "\n".join([*_innocent(report), "", *_attacked(report)])


def _innocent(report: Mapping[str, Any]) -> Iterator[str]:
    yield "| pictures | flagged as attacked | turned away for any reason |"
    yield "|---|---|---|"
    flagged = report["clean_flagged"]
    yield f"| clean | {_percent(flagged['adversarial'])} | {_percent(flagged['any'])} |"
    for group in report["subgroups"]:
        yield f"| clean, {group['column']} {group['group']} | {_percent(group['clean_fpr'])} | |"
    for row in report["harmless"]:
        yield f"| {row['change'].replace('_', ' ')} | {_percent(row['flagged'])} | |"
    for row in report["foreign"]:
        reasons = row["reasons"]
        yield f"| no dermoscopy: {row['kind']} | {_percent(reasons['adversarial'])} | {_percent(row['flagged'])} |"


def _attacked(report: Mapping[str, Any]) -> Iterator[str]:
    yield "| attack | AUC | told at 5 % false alarms | wrong answers | wrong and unflagged |"
    yield "|---|---|---|---|---|"
    for row in report["attacks"]:
        kind = ", knows the detector" if row["adaptive"] else ", stops at the boundary" * row["stops_at_boundary"]
        norm = "" if row["norm"] == "linf" else f" ({row['norm']})"
        told = "" if row["adaptive"] or row["stops_at_boundary"] else f"{row['tpr_at_fpr']['0.05']:.0%}"
        rates = f"{row['wrong']['value']:.1%} | {_percent(row['wrong_and_unflagged'])}"
        yield f"| {row['attack']} {row['epsilon_255']}/255{norm}{kind} | {row['auc']:.3f} | {told} | {rates} |"


def _percent(rate: Mapping[str, float]) -> str:
    return f"{rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%})"


def main() -> None:
    """Print the report of the project in the current directory, and where it was measured."""
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    source = bundle.source_of(Path.cwd())
    commit = f"{(source.commit or 'none')[:12]}{' with changes' if source.dirty else ''}"
    print(f"{table(report)}\n\nscored in {report['scored_in']}; machine: {machine()}; commit {commit}")


if __name__ == "__main__":
    main()
