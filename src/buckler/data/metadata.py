"""Reads the table that comes with pictures, ``metadata.csv`` or ``labels.csv``, and finds the picture of each row.

Tables are written on other systems than the pictures: names that people mean as one are matched (case, blanks, ``\\``,
Unicode's form, a missing suffix or class folder, a longer path), and what matches several pictures is an error.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from buckler.data import csv_table, manifest
from buckler.data.csv_table import CsvTable
from buckler.data.folder import Folder
from buckler.data.layout import Layout
from buckler.data.names import class_key, is_unknown, path_key, without_suffix
from buckler.errors import DataError

NAMES: Final = ("metadata.csv", "labels.csv")
NAME: Final = " or ".join(NAMES)

_FILE: Final = "file"
_LABEL: Final = "label"  # must agree with the class folders, where they are the classes
_TABLES: Final = frozenset({".csv", ".tsv", ".tab", ".xls", ".xlsx", ".xlsm", ".ods", ".numbers", ".parquet"})


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of a picture.

    Attributes:
        label: Its class; None if it has none.
        group: Pictures with the same one belong together; empty if unknown.
        extra: Further columns.
    """

    label: str | None
    group: str
    extra: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the table says, in numbers.

    Attributes:
        name: Of its file.
        rows: Its number of rows.
        without_file: Files that rows name and the folder has not.
        without_row: Files without a row; if the table defines the classes, those of the types that its rows name.
        without_class: Files whose row has none of the classes that the table defines.
        group: Column of the groups; empty if there is none.
        groups: Different groups of the pictures of all classes.
        groups_unknown: How often each text, such as ``NA``, says that the group is not known.
        groups_across: Groups of pictures of several classes.
        columns: Its columns that describe pictures, as the manifest calls them.
        respelled: Rows that name their picture in another spelling.
    """

    name: str
    rows: int
    without_file: tuple[str, ...]
    without_row: tuple[str, ...]
    without_class: tuple[str, ...]
    group: str
    groups: int
    groups_unknown: Mapping[str, int]
    groups_across: tuple[str, ...]
    columns: tuple[str, ...]
    respelled: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of the table by the id of their picture, and what they say in numbers."""

    rows: Mapping[str, Row]
    found: Metadata

    def row_of(self, name: str) -> Row:
        """Return the row of the picture ``name``; an empty one if it has none."""
        return self.rows.get(name) or Row(None, "", dict.fromkeys(self.found.columns, ""))


def is_metadata(name: str) -> bool:
    """Return whether people mean the table of the pictures by the file name ``name``."""
    return class_key(name).replace(" ", "") in NAMES


def read(folder: Folder, files: Sequence[str], layout: Layout, *, elsewhere: Sequence[str] = ()) -> Table | None:
    """Return the table in ``folder``, matched with its pictures; None if there is no table.

    Args:
        folder: Contains the pictures.
        files: Ids of the files that may be pictures.
        layout: Where classes and groups come from.
        elsewhere: Tables of that name in folders below, which are not read.

    Raises:
        DataError: There are two tables, or one under another name or in a folder below only; it is no CSV in UTF-8,
            lacks a column, gives a picture several rows or another label than its class folder's, or has a row that may
            mean several pictures; or as for `Layout.labels`.
    """
    name = _name(folder, elsewhere)
    if name is None:
        return None
    columns = [_FILE, *([] if layout.classes else [_LABEL]), *([layout.group] if layout.group else [])]
    table = csv_table.read(folder.read(name), str(folder.root / name), [*columns, *layout.columns])
    places = _places(table, columns, layout)
    labels = layout.labels(table) if layout.classes else [row[places[_LABEL]].strip() for row in table.rows]
    others = _others(table, set(places.values()))
    rows: dict[str, Row] = {}
    without_file: list[str] = []
    respelled, spelled = 0, _Spellings()
    index = _Index(files)
    for line, label in zip(table.rows, labels, strict=True):
        file = line[places[_FILE]].strip()
        found = index.picture(file, None if layout.classes else label, table.where)
        if found is None:
            without_file.append(file)
            continue
        if found in rows:
            raise DataError(f"expected one row per file in {table.where}, {file!r} has several")
        own = label if layout.classes else _folder_of(found, label or "", table.where)
        respelled += found != file
        group = spelled.group(line[places[layout.group]], own) if layout.group else ""
        rows[found] = Row(own, group, {column: line[place] for place, column in others.items()})
    numbers = Metadata(
        name=name,
        rows=len(table.rows),
        without_file=tuple(sorted(without_file)),
        without_row=tuple(sorted(_without_row(files, rows, layout))),
        without_class=tuple(sorted(found for found, row in rows.items() if row.label is None)),
        group=layout.group,
        groups=len(spelled.classes),
        groups_unknown=dict(sorted(spelled.unknown.items())),
        groups_across=spelled.across(),
        columns=tuple(others.values()),
        respelled=respelled,
    )
    return Table(rows, numbers)


def check_matched(table: Table, *, largest: float, where: str) -> None:
    """Check that nearly every row has its picture, and nearly every picture its row.

    Args:
        table: The table.
        largest: Largest share of rows without a picture, and of pictures without a row.
        where: Path of the folder.

    Raises:
        DataError: One of the shares is larger.
    """
    found = table.found
    rows, files, pictures = found.without_file, found.without_row, len(table.rows) + len(found.without_row)
    if len(rows) <= largest * found.rows and len(files) <= largest * pictures:
        return
    examples = [f"the table names {name!r}" for name in rows[:1]] + [f"the folder has {name!r}" for name in files[:1]]
    raise DataError(
        f"expected at most {largest:.0%} of the rows of {found.name} in {where} without a picture, and of the pictures "
        f"without a row (data.max_unmatched), got {len(rows)} of {found.rows} rows and {len(files)} of {pictures} "
        f"pictures: {', '.join(examples)}; correct the column `file`, or raise data.max_unmatched if the rest is meant "
        "to be missing"
    )


def _name(folder: Folder, elsewhere: Sequence[str]) -> str | None:
    """Return the name of the table in ``folder``; None if there is none."""
    names = folder.names()
    own = [name for name in names if is_metadata(name)]
    if len(own) > 1:
        raise DataError(f"expected one table {NAME} in {folder.root}, got {own}; remove all but one")
    if own:
        return own[0]
    others = [*(name for name in names if _is_table(name)), *elsewhere]
    if others:
        raise DataError(
            f"expected the table of the pictures in {folder.root} to be called {NAME}, got {others}; save it as CSV "
            "under that name directly in that folder, or move it out of the folder if it describes something else"
        )
    return None


def _is_table(name: str) -> bool:
    key = class_key(name)
    return PurePosixPath(key).suffix in _TABLES or key.startswith(("metadata", *NAMES))


def _places(table: CsvTable, columns: Sequence[str], layout: Layout) -> dict[str, int]:
    """Return the places of ``columns``, after a check that those that define classes are there, too."""
    try:
        return {name: place for name, place in table.places([*columns, *layout.columns]).items() if name in columns}
    except DataError as error:
        settings = "data.group ('': no column groups pictures) and data.classes ({}: one folder for each class)"
        raise DataError(f"{error}; {settings} in params.yaml name columns") from error


def _folder_of(found: str, label: str, where: str) -> str:
    """Return the class folder of the picture ``found``, which ``label`` must name."""
    own = PurePosixPath(found).parts[0]
    if class_key(label) != class_key(own):
        raise DataError(f"{where} labels {found} {label!r}, its folder {own!r}")
    return own


def _without_row(files: Sequence[str], rows: Mapping[str, Row], layout: Layout) -> Iterator[str]:
    """Yield the files without a row; where rows define what a picture is, only those of the types that they name."""
    types = {PurePosixPath(name).suffix.lower() for name in (rows if layout.classes else ())}
    for name in files:
        if name not in rows and (not types or PurePosixPath(name).suffix.lower() in types):
            yield name


def _others(table: CsvTable, taken: set[int]) -> dict[int, str]:
    """Return the further columns by place, as the manifest calls them, which has columns of its own."""
    names = {place: column for place, column in enumerate(table.header) if place not in taken}
    names = {place: f"metadata_{name}" if name in manifest.COLUMNS else name for place, name in names.items()}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise DataError(
            f"expected {table.where} to have no column {twice[0]!r}, which is the manifest's name for another one"
        )
    return names


class _Spellings:
    """Names of groups: one spelling each, and the texts that mean none."""

    def __init__(self) -> None:
        self.classes: dict[str, set[str]] = {}
        self.unknown: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def group(self, text: str, label: str | None) -> str:
        """Return the group that ``text`` means, in its first spelling; empty if it means none.

        Those of pictures without a ``label`` are not counted.
        """
        text = text.strip()
        if is_unknown(text):
            self.unknown[text] += label is not None
            return ""
        first = self._first.setdefault(class_key(text), text)
        if label is not None:
            self.classes.setdefault(first, set()).add(label)
        return first

    def across(self) -> tuple[str, ...]:
        """Return the groups of pictures of several classes."""
        return tuple(sorted(group for group, labels in self.classes.items() if len(labels) > 1))


class _Index:
    """Finds the picture that a row means."""

    def __init__(self, files: Iterable[str]) -> None:
        self._ids = set(files)
        self._keys = {name: path_key(name) for name in sorted(self._ids)}
        self._by_name: dict[str, list[str]] = {}
        for name, key in self._keys.items():
            for last in {key[-1], without_suffix(key[-1])}:
                self._by_name.setdefault(last, []).append(name)

    def picture(self, file: str, label: str | None, where: str) -> str | None:
        """Return the picture that ``file`` means; None if there is none.

        Args:
            file: Its name in the table.
            label: Its class folder according to the table; None if there are no class folders.
            where: Path of the table.

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

    def _is_of(self, name: str, label: str | None) -> bool:
        return label is None or class_key(PurePosixPath(name).parts[0]) == class_key(label)


def _ends_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether the longer of two paths ends with the shorter one."""
    length = min(len(one), len(other))
    return length == 0 or tuple(one[-length:]) == tuple(other[-length:])
