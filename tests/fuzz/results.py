"""Writes what fuzzers did as docs/results/fuzz.json, from which the documentation's table is made."""

from collections.abc import Sequence

from benchmarks import results as documents
from tests.fuzz.engine import Run
from tests.fuzz.table import TARGETS

COMMAND = "python -m tests.fuzz all --results --seconds {seconds}"


def document(runs: Sequence[Run], seconds: int, seed: int) -> documents.Results:
    """Return the document of these runs."""
    rows = tuple(
        {
            "target": run.target,
            "parser": first_line(run.target),
            "seconds": run.seconds,
            "executions": run.executions,
            "per_second": round(run.executions / max(1, run.seconds), 1),
            "edges": run.edges,
            "features": run.features,
            "corpus": run.committed,
            "findings": len(run.findings),
        }
        for run in runs
    )
    columns = (
        documents.Column("target", "target"),
        documents.Column("parser", "input"),
        documents.Column("seconds", "seconds", ","),
        documents.Column("executions", "inputs run", ","),
        documents.Column("per_second", "a second", ",.0f"),
        documents.Column("edges", "branches reached", ","),
        documents.Column("features", "features reached", ","),
        documents.Column("corpus", "committed inputs", ","),
        documents.Column("findings", "findings"),
    )
    tables = {"targets": documents.Table(columns, rows)}
    return documents.new("fuzz", COMMAND.format(seconds=seconds), tables, seeds=[seed], settings={"seconds": seconds})


def first_line(target: str) -> str:
    """Return what the inputs of a target are, from its docstring."""
    return (TARGETS[target].load().__doc__ or "").partition("\n")[0].rstrip(".")
