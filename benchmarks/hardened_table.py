"""Prints and draws what the hardened network holds beside the undefended one, on the same test pictures.

Reads   reports/robustness.json of the undefended network, reports/hardened/robustness.json of the hardened one
Writes  reports/hardened/comparison.png: clean accuracy and worst case by radius, of both
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from buckler.compute.machine import machine
from buckler.evaluation.statistics import Rate
from buckler.release import bundle
from buckler.reporting import plots
from buckler.state import documents
from pipelines.stage import stage

UNDEFENDED, HARDENED = Path("reports"), Path("reports/hardened")
# What the recipe is meant to reach on the pictures of the paper; docs/adr/0008-hardening.md.
GOALS = {
    "clean accuracy": 0.85,
    "FGSM 1/255": 0.80,
    "FGSM 2/255": 0.76,
    "worst case 1/255": 0.73,
    "worst case 2/255": 0.62,
    "worst case 4/255": 0.38,
    "malignant sensitivity, worst case 2/255": 0.68,
}


def run() -> None:
    """Print the table, the lines of the suite and where it was measured; draw both curves."""
    undefended, hardened = _read(UNDEFENDED), _read(HARDENED)
    print("\n".join(lines(undefended, hardened)))
    draw(undefended, hardened, HARDENED / "comparison.png")


def lines(undefended: Mapping[str, Any], hardened: Mapping[str, Any]) -> Iterator[str]:
    """Yield the page as Markdown."""
    before, after = rates(undefended), rates(hardened)
    yield f"\n| on {hardened['data']['images']} test pictures | undefended | hardened | goal |"
    yield "|---|---|---|---|"
    for name, goal in GOALS.items():
        if name in before and name in after:
            yield f"| {name} | {_share(before[name])} | {_share(after[name])} | {_judged(after[name], goal)} |"
    yield ""
    suite = (f"{c['attack']} {c['epsilon_255']}/255, {_budget(c)}" for c in hardened["cells"])
    yield f"worst case over: {'; '.join(suite)}"
    failed = [check["name"] for check in hardened["checks"] if not check["passed"]]
    yield f"checks of the hardened network: {'failed: ' + ', '.join(failed) if failed else 'all passed'}"
    source = bundle.source_of(Path.cwd())
    yield (
        f"machine: {machine()}; commit {(source.commit or 'none')[:12]}{' with changes' if source.dirty else ''}; "
        f"data {hardened['data']['version'][:14]}"
    )


def draw(undefended: Mapping[str, Any], hardened: Mapping[str, Any], path: Path) -> None:
    """Draw clean accuracy, as radius 0, and the worst case at each radius."""
    curves = {
        name: {0: Rate(**one["clean_accuracy"])}
        | {row["epsilon_255"]: Rate(**row["robust_accuracy"]) for row in one["worst_case"]}
        for name, one in (("undefended", undefended), ("hardened", hardened))
    }
    classes = [sum(row) for row in hardened["clean_confusion"]]
    plots.comparison(curves, max(classes) / sum(classes), path)


def rates(robustness: Mapping[str, Any]) -> dict[str, Rate]:
    """Return the rates of the table by name, where they were measured."""
    found = {"clean accuracy": robustness["clean_accuracy"]}
    for cell in robustness["cells"]:
        if cell["attack"] == "fgsm":
            found[f"FGSM {cell['epsilon_255']}/255"] = cell["robust_accuracy"]
    for row in robustness["worst_case"]:
        found[f"worst case {row['epsilon_255']}/255"] = row["robust_accuracy"]
        found[f"malignant sensitivity, worst case {row['epsilon_255']}/255"] = row["sensitivity"]
    return {name: Rate(**rate) for name, rate in found.items() if rate is not None}


def _read(folder: Path) -> dict[str, Any]:
    return documents.read_json(folder / "robustness.json")


def _budget(cell: Mapping[str, Any]) -> str:
    # A search that sees only answers is bounded by how many it gets.
    searches = cell["knowledge"] in ("score", "label")
    return f"{cell['queries']} queries" if searches else f"{cell['steps']} steps"


def _share(rate: Rate) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def _judged(rate: Rate, goal: float) -> str:
    return f"at least {goal:.0%}: {'reached' if rate.value >= goal else f'short by {goal - rate.value:.1%}'}"


if __name__ == "__main__":
    stage(run)
