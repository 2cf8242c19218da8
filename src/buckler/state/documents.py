"""Reads and writes reports: dataclasses as JSON, rows as CSV.

People open the CSV files in spreadsheets, which compute a cell that begins like a formula, and names of files and
columns come from suppliers. Such a cell gets an apostrophe in front, which spreadsheets hide, and loses it when read.
"""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from buckler.errors import DataError
from buckler.state.locations import Location

# A formula begins with one of these; the full-width forms count in some languages of a spreadsheet. Where the separator
# is a semicolon, one within a text starts a new cell.
_FORMULA: Final = r"'*[ \u00a0\u3000]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_TO_PROTECT: Final = re.compile(rf"(^|[;\t\r\n])(?={_FORMULA})")
_PROTECTED: Final = re.compile(rf"(^|[;\t\r\n])'(?={_FORMULA})")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``document``, in which dataclasses become objects; creates missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=2, default=dataclasses.asdict, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Location) -> dict[str, Any]:
    """Return the JSON object in ``path``.

    Raises:
        DataError: The file is missing or contains no JSON object.
    """
    try:
        document = json.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        raise DataError(f"no {path}; run `dvc repro` first") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``rows`` with the columns of the first row; creates missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(rows[0])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(to_cell, columns))
        writer.writerows([to_cell(row[name]) for name in columns] for row in rows)


def read_csv(path: Location) -> list[dict[str, str]]:
    """Return the rows of a CSV file as dicts by column.

    Raises:
        DataError: There is no such file.
    """
    try:
        rows = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
        return [{from_cell(name): from_cell(cell) for name, cell in row.items()} for row in rows]
    except FileNotFoundError as error:
        raise DataError(f"no {path}; run `dvc repro` first") from error


def to_cell(value: Any) -> Any:
    """Return ``value`` as a CSV file has it: what a spreadsheet would compute gets an apostrophe in front."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return _TO_PROTECT.sub(r"\1'", value)


def from_cell(cell: Any) -> Any:
    """Return the value that ``to_cell`` wrote as ``cell``."""
    return _PROTECTED.sub(r"\1", cell) if isinstance(cell, str) else cell
