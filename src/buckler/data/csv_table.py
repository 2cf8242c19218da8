"""Reads a CSV as spreadsheets and programs write it: its separator, encoding and empty columns differ."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buckler.data.names import class_key
from buckler.errors import DataError

_SEPARATORS: Final = ",;\t|"
_EXCEL: Final = re.compile(r'"?sep=[,;\t|]"?[,;\t|]*', re.IGNORECASE)  # a first line that Excel understands
_BINARY: Final = {b"PK\x03\x04": "an Excel workbook", b"\xd0\xcf\x11\xe0": "an Excel workbook", b"PAR1": "Parquet"}


@dataclass(frozen=True, slots=True)
class CsvTable:
    """The ``rows`` of a CSV, each with a cell a column of ``header``; ``where`` is its path."""

    where: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def name(self) -> str:
        """Return the name of the file."""
        return Path(self.where).name

    def places(self, columns: Iterable[str]) -> dict[str, int]:
        """Return the place of each of ``columns``, whose names may differ in case, blanks and separators of words.

        Raises:
            DataError: A column is missing.
        """
        names, found = list(columns), self._by_key()
        missing = [name for name in names if column_key(name) not in found]
        if missing:
            raise DataError(
                f"expected {self.where} to have the columns {names}, {missing} are missing; it has {list(self.header)}"
            )
        return {name: found[column_key(name)] for name in names}

    def _by_key(self) -> Mapping[str, int]:
        return {column_key(name): place for place, name in enumerate(self.header)}


def read(content: bytes, where: str, expected: Iterable[str]) -> CsvTable:
    """Return the table in the bytes ``content`` of the file ``where``, separated by comma, semicolon, tab or ``|``.

    Args:
        content: UTF-8, or UTF-16 with its mark.
        where: Path of the file, for errors.
        expected: Columns by which the separator is recognised.

    Raises:
        DataError: It is no such table, a row has another number of cells than the header, or a column is there twice.
    """
    text = _text(content, where)
    first = next(iter(text.splitlines()), "")
    if _EXCEL.fullmatch(first):
        text = text[len(first) :].lstrip("\r\n")
        first = next(iter(text.splitlines()), "")
    wanted = set(map(column_key, expected))
    separator = max(_SEPARATORS, key=lambda each: len(wanted & _keys(first, each)))
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DataError(f"expected {where} to be a CSV in UTF-8: {error}") from error
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if not lines:
        raise DataError(f"expected {where} to be a CSV in UTF-8, it is empty")
    header, *rows = lines
    while header and not any(row[len(header) - 1 : len(header)] not in ([], [""]) for row in lines):
        header.pop()  # a column that a spreadsheet has left empty
    for number, row in enumerate(rows, 1):
        if len(row) < len(header) or any(row[len(header) :]):
            raise DataError(f"expected {len(header)} cells in each row of {where}, got {len(row)} in row {number}")
    header = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(header)]
    twice = [name for name, count in Counter(map(column_key, header)).items() if count > 1]
    if twice:
        raise DataError(f"expected {where} to have each column once, {twice[0]!r} is there several times")
    return CsvTable(where, header, rows)


def column_key(name: str) -> str:
    """Return the key of a column's name: names with equal keys mean the same column."""
    return class_key(name).replace(" ", "_")


def _text(content: bytes, where: str) -> str:
    for magic, kind in _BINARY.items():
        if content.startswith(magic):
            raise DataError(f"expected {where} to be a CSV in UTF-8, got {kind}; save it as CSV (UTF-8)")
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"expected {where} to be a CSV in UTF-8: {error}; save it as CSV (UTF-8)") from error
    if "\0" in text:
        raise DataError(f"expected {where} to be a CSV in UTF-8, it has NUL characters")
    return text


def _keys(line: str, separator: str) -> set[str]:
    """Return the keys of the columns that the header ``line`` has when divided by ``separator``."""
    return {column_key(name.strip().strip('"')) for name in line.split(separator)}
