"""Writes the times of `make demo RESULTS=DIR` to docs/results/demo.json."""

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


def write(rows: Sequence[Mapping[str, CellValue]], out: Path) -> Path:
    """Write rows with the cells of `COLUMNS` into the folder ``out`` and return the file."""
    return results.new("demo", "make demo", {"time": Table(COLUMNS, tuple(map(dict, rows)))}).write(out)
