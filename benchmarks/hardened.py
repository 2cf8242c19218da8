"""Compares the hardened network with the undefended one on the same test pictures.

Reads   reports/robustness.json of the undefended network, reports/hardened/robustness.json of the hardened one
Writes  docs/results/hardened.json; docs/results/hardened.png with clean accuracy and worst case by radius of both
"""

import argparse
from pathlib import Path

from benchmarks import results
from benchmarks.results import Column, Estimate, Table
from benchmarks.tables import markdown
from buckler.evaluation import reports
from buckler.evaluation.reports import RobustnessReport
from buckler.measurements.results import Cell, Rate
from buckler.radius import NO_ATTACK
from buckler.reporting import plots
from pipelines.stage import stage

COMMAND = "make hardened IMAGES=DIR WEIGHTS=FILE"
UNDEFENDED, HARDENED = Path("reports"), Path("reports/hardened")
# Goals of the recipe on the pictures of the paper; docs/adr/0008-hardening.md.
GOALS = {
    "clean accuracy": 0.85,
    "FGSM 1/255": 0.80,
    "FGSM 2/255": 0.76,
    "worst case 1/255": 0.73,
    "worst case 2/255": 0.62,
    "worst case 4/255": 0.38,
    "malignant sensitivity, worst case 2/255": 0.68,
}


def run(out: Path) -> None:
    """Write and print the table, and draw both curves."""
    undefended, hardened = (reports.read(RobustnessReport, each) for each in (UNDEFENDED, HARDENED))
    tables = {"rates": table(undefended, hardened)}
    seeds = sorted({cell.seed for cell in hardened.cells})
    results.new("hardened", COMMAND, tables, seeds=seeds, remark=remark(hardened)).write(out)
    draw(undefended, hardened, out / "hardened.png")
    print(markdown(tables["rates"]))


def table(undefended: RobustnessReport, hardened: RobustnessReport) -> Table:
    """Return a row for each goal that was measured on both networks."""
    before, after = rates(undefended), rates(hardened)
    columns = (
        Column("rate", f"on {hardened.data.images} test pictures"),
        Column("undefended", "undefended", ".1%"),
        Column("hardened", "hardened", ".1%"),
        Column("goal", "goal, at least", ".0%"),
        Column("reached", "reached"),
    )
    return Table(
        columns,
        tuple(
            {
                "rate": name,
                "undefended": _estimate(before[name]),
                "hardened": _estimate(after[name]),
                "goal": goal,
                "reached": after[name].value >= goal,
            }
            for name, goal in GOALS.items()
            if name in before and name in after
        ),
    )


def remark(hardened: RobustnessReport) -> str:
    """Return the attacks of the worst case, the failed checks and the version of the data."""
    suite = (f"{c.attack} {c.radius}, {_budget(c)}" for c in hardened.cells)
    failed = [check.name for check in hardened.checks if not check.passed]
    checks = f"failed: {', '.join(failed)}" if failed else "all passed"
    return f"Worst case over: {'; '.join(suite)}. Checks: {checks}. Data {hardened.data.version[:14]}."


def draw(undefended: RobustnessReport, hardened: RobustnessReport, path: Path) -> None:
    """Draw clean accuracy, as radius 0, and the worst case at each radius."""
    curves = {
        name: {NO_ATTACK: one.clean_accuracy} | {row.radius: row.robust_accuracy for row in one.worst_case}
        for name, one in (("undefended", undefended), ("hardened", hardened))
    }
    plots.comparison(curves, hardened.chance, path)


def rates(robustness: RobustnessReport) -> dict[str, Rate]:
    """Return the measured rates of the table by name."""
    found: dict[str, Rate | None] = {"clean accuracy": robustness.clean_accuracy}
    for cell in robustness.cells:
        if cell.attack == "fgsm":
            found[f"FGSM {cell.radius}"] = cell.robust_accuracy
    for row in robustness.worst_case:
        found[f"worst case {row.radius}"] = row.robust_accuracy
        found[f"malignant sensitivity, worst case {row.radius}"] = row.sensitivity
    return {name: rate for name, rate in found.items() if rate is not None}


def _budget(cell: Cell) -> str:
    # Black-box attacks are limited by their queries.
    return f"{cell.queries} queries" if cell.knowledge in ("score", "label") else f"{cell.steps} steps"


def _estimate(rate: Rate) -> Estimate:
    return Estimate(rate.value, rate.low, rate.high)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_options(parser)
    run(parser.parse_args().out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
