"""Reads ``metadata.csv``, the table that comes with pictures, and finds the picture of each row.

Tables are written on other systems than the pictures: names that people mean as one are matched (case, blanks, ``\\``,
Unicode's form, a missing suffix or class folder, a longer path), and what matches several pictures is an error.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from buckler.data import manifest
from buckler.data.folder import Folder
from buckler.data.names import class_key, is_unknown, path_key, without_suffix
from buckler.errors import DataError

NAME: Final = "metadata.csv"
COLUMNS: Final = ("file", "label", "lesion_id")

_TABLES: Final = frozenset({".csv", ".tsv", ".tab", ".xls", ".xlsx", ".xlsm", ".ods", ".numbers", ".parquet"})
_SEPARATORS: Final = ",;\t|"
_EXCEL: Final = re.compile(r'"?sep=[,;\t|]"?[,;\t|]*', re.IGNORECASE)  # a first line that Excel understands
_BINARY: Final = {b"PK\x03\x04": "an Excel workbook", b"\xd0\xcf\x11\xe0": "an Excel workbook", b"PAR1": "Parquet"}


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of a picture: its ``lesion``, empty if unknown, and further columns."""

    lesion: str
    extra: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What ``metadata.csv`` says, in numbers.

    Attributes:
        rows: Its number of rows.
        without_file: Files that rows name and no class folder has.
        without_row: Files without a row.
        lesions: Different lesion ids.
        lesions_unknown: How often each text, such as ``NA``, says that the lesion is not known.
        lesions_across: Lesion ids of pictures of several classes.
        columns: Its columns that describe pictures, as the manifest calls them.
        respelled: Rows that name their picture in another spelling.
    """

    rows: int
    without_file: tuple[str, ...]
    without_row: tuple[str, ...]
    lesions: int
    lesions_unknown: Mapping[str, int]
    lesions_across: tuple[str, ...]
    columns: tuple[str, ...]
    respelled: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of ``metadata.csv`` by the id of their picture, and what they say in numbers."""

    rows: Mapping[str, Row]
    found: Metadata

    def row_of(self, name: str) -> Row:
        """Return the row of the picture ``name``; an empty one if it has none."""
        return self.rows.get(name) or Row("", dict.fromkeys(self.found.columns, ""))


def is_metadata(name: str) -> bool:
    """Return whether people mean ``metadata.csv`` by the file name ``name``."""
    return class_key(name).replace(" ", "") == NAME


def read(folder: Folder, files: Mapping[str, Sequence[str]], *, elsewhere: Sequence[str] = ()) -> Table | None:
    """Return the table in ``folder``, matched with its pictures; None if there is no table.

    Args:
        folder: Contains the class folders.
        files: Ids of the pictures by class.
        elsewhere: Tables of that name in the class folders, which are not read.

    Raises:
        DataError: There are two tables, or one under another name or in a class folder only; it is no CSV in UTF-8,
            lacks a column, gives a picture several rows or another label than its folder's, or has a row that may mean
            several pictures.
    """
    name = _name(folder, elsewhere)
    if name is None:
        return None
    where = str(folder.root / name)
    header, cells = _cells(folder.read(name), where)
    places = _places(header, where)
    others = _others(header, set(places.values()), where)
    rows: dict[str, Row] = {}
    without_file: list[str] = []
    respelled, spelled = 0, _Spellings()
    index = _Index(files)
    for line in cells:
        file, label = (line[places[column]].strip() for column in ("file", "label"))
        found = index.picture(file, label, where)
        if found is None:
            without_file.append(file)
            continue
        if found in rows:
            raise DataError(f"expected one row per file in {where}, {file!r} has several")
        own = PurePosixPath(found).parts[0]
        if class_key(label) != class_key(own):
            raise DataError(f"{where} labels {found} {label!r}, its folder {own!r}")
        respelled += found != file
        lesion = spelled.lesion(line[places["lesion_id"]], own)
        rows[found] = Row(lesion, {column: line[place] for place, column in others.items()})
    numbers = Metadata(
        rows=len(cells),
        without_file=tuple(sorted(without_file)),
        without_row=tuple(sorted(name for names in files.values() for name in names if name not in rows)),
        lesions=len(spelled.classes),
        lesions_unknown=dict(sorted(spelled.unknown.items())),
        lesions_across=spelled.across(),
        columns=tuple(others.values()),
        respelled=respelled,
    )
    return Table(rows, numbers)


def check_matched(found: Metadata, pictures: int, *, largest: float, where: str) -> None:
    """Check that nearly every row has its picture, and nearly every picture its row.

    Args:
        found: What the table says.
        pictures: Number of files in the class folders.
        largest: Largest share of rows without a picture, and of pictures without a row.
        where: Path of the folder.

    Raises:
        DataError: One of the shares is larger.
    """
    rows, files = found.without_file, found.without_row
    if len(rows) <= largest * found.rows and len(files) <= largest * pictures:
        return
    examples = [f"the table names {name!r}" for name in rows[:1]] + [f"the folder has {name!r}" for name in files[:1]]
    raise DataError(
        f"expected at most {largest:.0%} of the rows of {NAME} in {where} without a picture, and of the pictures "
        f"without a row (data.max_unmatched), got {len(rows)} of {found.rows} rows and {len(files)} of {pictures} "
        f"pictures: {', '.join(examples)}; correct the column `file`, or raise data.max_unmatched if the rest is meant "
        "to be missing"
    )


def _name(folder: Folder, elsewhere: Sequence[str]) -> str | None:
    """Return the name of the table in ``folder``; None if there is none."""
    names = folder.names()
    own = [name for name in names if is_metadata(name)]
    if len(own) > 1:
        raise DataError(f"expected one {NAME} in {folder.root}, got {own}; remove all but one")
    if own:
        return own[0]
    others = [*(name for name in names if _is_table(name)), *elsewhere]
    if others:
        raise DataError(
            f"expected the table of the pictures in {folder.root} to be called {NAME}, got {others}; save it as CSV "
            "under that name beside the class folders, or move it out of the folder if it describes something else"
        )
    return None


def _is_table(name: str) -> bool:
    return PurePosixPath(class_key(name)).suffix in _TABLES or class_key(name).startswith("metadata")


def _cells(content: bytes, where: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, and the cells of each row."""
    text = _text(content, where)
    first = next(iter(text.splitlines()), "")
    if _EXCEL.fullmatch(first):
        text = text[len(first) :].lstrip("\r\n")
        first = next(iter(text.splitlines()), "")
    separator = max(_SEPARATORS, key=lambda each: _known(first, each))
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DataError(f"expected {where} to be a CSV in UTF-8: {error}") from error
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if not lines:
        raise DataError(f"expected {where} to be a CSV in UTF-8, it is empty")
    header, *cells = lines
    while header and not any(row[len(header) - 1 : len(header)] not in ([], [""]) for row in lines):
        header.pop()  # a column that a spreadsheet has left empty
    for number, row in enumerate(cells, 1):
        if len(row) < len(header) or any(row[len(header) :]):
            raise DataError(f"expected {len(header)} cells in each row of {where}, got {len(row)} in row {number}")
    return [name.strip() or f"Unnamed: {place}" for place, name in enumerate(header)], cells


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


def _known(line: str, separator: str) -> int:
    """Return how many of `COLUMNS` the header ``line`` has when divided by ``separator``."""
    keys = {_column_key(name.strip().strip('"')) for name in line.split(separator)}
    return len(keys & set(COLUMNS))


def _column_key(name: str) -> str:
    return class_key(name).replace(" ", "_")


def _places(header: Sequence[str], where: str) -> dict[str, int]:
    """Return the places of `COLUMNS` in ``header``."""
    twice = [name for name, count in Counter(map(_column_key, header)).items() if count > 1]
    if twice:
        raise DataError(f"expected {where} to have each column once, {twice[0]!r} is there several times")
    found = {_column_key(name): place for place, name in enumerate(header)}
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise DataError(
            f"expected {where} to have the columns {list(COLUMNS)}, {missing} are missing; it has {list(header)}"
        )
    return {name: found[name] for name in COLUMNS}


def _others(header: Sequence[str], taken: set[int], where: str) -> dict[int, str]:
    """Return the further columns by place, as the manifest calls them, which has columns of its own."""
    names = {place: column for place, column in enumerate(header) if place not in taken}
    names = {place: f"metadata_{name}" if name in manifest.COLUMNS else name for place, name in names.items()}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise DataError(
            f"expected {where} to have no column {twice[0]!r}, which is the manifest's name for another one"
        )
    return names


class _Spellings:
    """Lesion ids: one spelling each, and the texts that mean none."""

    def __init__(self) -> None:
        self.classes: dict[str, set[str]] = {}
        self.unknown: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def lesion(self, text: str, label: str) -> str:
        """Return the lesion id that ``text`` means, in its first spelling; empty if it means none."""
        text = text.strip()
        if is_unknown(text):
            self.unknown[text] += 1
            return ""
        first = self._first.setdefault(class_key(text), text)
        self.classes.setdefault(first, set()).add(label)
        return first

    def across(self) -> tuple[str, ...]:
        """Return the lesion ids of pictures of several classes."""
        return tuple(sorted(lesion for lesion, labels in self.classes.items() if len(labels) > 1))


class _Index:
    """Finds the picture that a row means."""

    def __init__(self, files: Mapping[str, Sequence[str]]) -> None:
        self._ids = {name for names in files.values() for name in names}
        self._keys = {name: path_key(name) for name in sorted(self._ids)}
        self._by_name: dict[str, list[str]] = {}
        for name, key in self._keys.items():
            for last in {key[-1], without_suffix(key[-1])}:
                self._by_name.setdefault(last, []).append(name)

    def picture(self, file: str, label: str, where: str) -> str | None:
        """Return the picture that ``file`` means, for which the table gives ``label``; None if there is none.

        Raises:
            DataError: It may mean several.
        """
        if file in self._ids:
            return file
        key = path_key(file)
        for found in self._candidates(key) if key else ():
            chosen = found if len(found) == 1 else [name for name in found if self._is_of(name, label)]
            if len(chosen) > 1:
                raise DataError(f"expected each row of {where} to mean one file, {file!r} may mean any of {chosen}")
            if chosen:
                return chosen[0]
        return None

    def _candidates(self, key: tuple[str, ...]) -> Iterator[list[str]]:
        """Yield the pictures whose path ends as ``key`` does, or the reverse: with, then without the suffix."""
        named = [name for name in self._by_name.get(key[-1], ()) if _ends_alike(key[:-1], self._keys[name][:-1])]
        yield [name for name in named if self._keys[name][-1] == key[-1]]
        yield named

    def _is_of(self, name: str, label: str) -> bool:
        return class_key(PurePosixPath(name).parts[0]) == class_key(label)


def _ends_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether the longer of two paths ends with the shorter one."""
    length = min(len(one), len(other))
    return length == 0 or tuple(one[-length:]) == tuple(other[-length:])
