"""Writes the measured numbers of the documentation from ``docs/results/*.json``: `make tables`.

The command replaces the text between each marker and the next ``<!-- end -->``::

    <!-- table: serving.load -->               the table ``load`` of serving.json
    <!-- text: demo.story -->                  the lines of a table with one column, as they were printed
    <!-- measured: serving -->                 command, commit and machine of serving.json
    <!-- figure: serving.load[Buckler; 16].requests_per_second -->      one cell, inside a line

The row of a figure is named by its first cells, separated by semicolons.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks import results
from benchmarks.results import CellValue, Column, Estimate, Results, Table
from buckler.errors import DataError
from pipelines.stage import stage

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"<!-- (table|text|measured|figure): (.+?) -->(.*?)<!-- end -->", re.DOTALL)
FIGURE = re.compile(r"([^\[]+)\[(.+)\]\.(\w+)")

Library = Mapping[str, Results]


def library(directory: Path) -> dict[str, Results]:
    """Return the documents of ``directory`` by name."""
    return {path.stem: results.read(path) for path in sorted(directory.glob("*.json"))}


def pages(root: Path) -> list[Path]:
    """Return the pages of the documentation."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def fill(text: str, known: Library) -> str:
    """Return ``text`` with new content for every marker."""

    def content(match: re.Match[str]) -> str:
        kind, target, _ = match.groups()
        filled = {"table": _table, "text": _text, "measured": _measured, "figure": _figure}[kind](target, known)
        gap = "" if kind == "figure" else "\n\n"
        return f"<!-- {kind}: {target} -->{gap}{filled}{gap}<!-- end -->"

    return MARKER.sub(content, text)


def unshown(texts: Iterable[str], known: Library) -> set[str]:
    """Return the tables without a marker."""
    shown = {target for text in texts for kind, target, _ in MARKER.findall(text) if kind in ("table", "text")}
    return {f"{name}.{table}" for name, document in known.items() for table in document.tables} - shown


def markdown(table: Table) -> str:
    """Return ``table`` in Markdown."""
    return "\n".join(_lines(table))


def _lines(table: Table) -> Iterator[str]:
    titles = [f"{c.title} ({c.interval})" if c.interval else c.title for c in table.columns]
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for row in table.rows:
        yield f"| {' | '.join(_cell(row.get(column.key), column) for column in table.columns)} |"


def _cell(cell: CellValue, column: Column) -> str:
    if isinstance(cell, Estimate):
        bounds = [_cell(bound, column) for bound in (cell.low, cell.high) if bound is not None]
        interval = " to ".join(bounds)
        if cell.value is None:
            return interval
        return _cell(cell.value, column) + (f" ({interval})" if interval else "")
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell.replace("|", "\\|")
    return format(cell, column.format)


def _table(target: str, known: Library) -> str:
    return markdown(_find(target, known))


def _text(target: str, known: Library) -> str:
    table = _find(target, known)
    (column,) = table.columns
    return "\n".join(["```", *(str(row[column.key]) for row in table.rows), "```"])


def _measured(name: str, known: Library) -> str:
    document = _document(name, known)
    measured = document.measured
    commit = measured.commit and f"commit {measured.commit[:12]}{' with changes' * bool(measured.dirty)}"
    command = document.command and f"`{document.command}`"
    parts = [part for part in (command, commit, measured.machine) if part]
    remark = f" {measured.remark}" if measured.remark else ""
    return f"*Measured: {'; '.join(parts) or 'by hand'}.{remark}*"


def _figure(target: str, known: Library) -> str:
    match = FIGURE.fullmatch(target)
    if match is None:
        raise DataError(f"expected a figure as NAME.TABLE[CELL; CELL].COLUMN, got {target}")
    name, cells, key = match.groups()
    table, wanted = _find(name, known), cells.split("; ")
    leading = table.columns[: len(wanted)]
    rows = [row for row in table.rows if [_cell(row.get(column.key), column) for column in leading] == wanted]
    columns = [column for column in table.columns if column.key == key]
    if len(rows) != 1 or not columns:
        raise DataError(f"expected one row and a column for {target}, got {len(rows)} rows and {len(columns)} columns")
    return _cell(rows[0].get(key), columns[0])


def _find(target: str, known: Library) -> Table:
    name, _, table = target.partition(".")
    tables = _document(name, known).tables
    if table not in tables:
        raise DataError(f"expected a table of {name}.json ({', '.join(tables)}), got {target}")
    return tables[table]


def _document(name: str, known: Library) -> Results:
    if name not in known:
        raise DataError(f"no {results.DIRECTORY}/{name}.json, which a marker names")
    return known[name]


def main() -> None:
    """Rewrite the pages."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    known, filled = library(ROOT / results.DIRECTORY), {}
    for path in pages(ROOT):
        before = path.read_text(encoding="utf-8")
        filled[path] = fill(before, known)
        if filled[path] != before:
            path.write_text(filled[path], encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    for table in sorted(unshown(filled.values(), known)):
        print(f"no document shows the table {table}", file=sys.stderr)


if __name__ == "__main__":
    stage(main)
