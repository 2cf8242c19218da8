"""Writes the times and the last lines of `make demo RESULTS=DIR` to docs/results/demo.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.results import CellValue, Column, Table

COLUMNS = (
    Column("step", "`make demo`"),
    Column("seconds", "seconds", ",.0f"),
    Column("silent", "without a moving progress bar", ",.0f"),
    Column("source", "results"),
)


def write(rows: Sequence[Mapping[str, CellValue]], story: Sequence[str], out: Path) -> Path:
    """Write rows with the cells of `COLUMNS` and the lines of the story into the folder ``out``; return the file."""
    lines = Table((Column("line", "line"),), tuple({"line": line} for line in story))
    tables = {"time": Table(COLUMNS, tuple(map(dict, rows))), "story": lines}
    return results.new("demo", "make demo", tables).write(out)
