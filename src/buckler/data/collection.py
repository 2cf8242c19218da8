"""A folder of pictures whose classes are its folders, or are defined by its table."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from buckler import findings
from buckler.data import metadata
from buckler.data.folder import Folder
from buckler.data.layout import Layout
from buckler.data.names import class_key
from buckler.data.sources import Item
from buckler.errors import DataError

CHECKSUMS: Final = frozenset({"SHA256SUMS", "SHA512SUMS", "MD5SUMS"})
# Reasons why files are not used, besides those of `leftovers`.
_OUTSIDE: Final = "outside the class folders"
_OTHER_TYPE: Final = "of a type that no row names"
_WITHOUT_ROW: Final = "without a row"
_WITHOUT_CLASS: Final = "of none of the classes (data.classes)"
_CHECKSUMS: Final = "lists of checksums"
_TABLES: Final = "tables in folders below"


@dataclass(frozen=True, slots=True)
class Collection:
    """The pictures of a folder.

    Attributes:
        layout: Where their classes and groups come from.
        files: Ids of the files of each class.
        skipped: Further files and folders by the reason why they are not used.
        table: Its table, if there is one.
    """

    folder: Folder
    layout: Layout
    files: Mapping[str, Sequence[str]]
    skipped: Mapping[str, Sequence[str]]
    table: metadata.Table | None

    def items(self, *, per_class: int, seed: int) -> list[Item]:
        """Return pictures, sorted by id.

        Args:
            per_class: Number of pictures per class, chosen at random; 0 takes all.
            seed: Seed of the choice, which does not depend on the order of the files.
        """
        drawn = [(label, name) for label, ids in self.files.items() for name in _drawn(ids, per_class, seed)]
        return sorted((self._item(label, name) for label, name in drawn), key=lambda item: item.id)

    def _item(self, label: str, name: str) -> Item:
        read = partial(self.folder.read, name)
        if self.table is None:
            return Item(name, label, read)
        row = self.table.row_of(name)
        return Item(name, label, read, group=row.group, extra=row.extra)

    def check(self, *, dangerous: Sequence[str], max_unmatched: float) -> None:
        """Check that the folder is the one that the settings describe.

        Args:
            dangerous: Labels that must be classes, ``data.malignant``.
            max_unmatched: Largest share of rows without a picture and of pictures without a row.

        Raises:
            DataError: It is not.
        """
        classes = "classes of data.classes for" if self.layout.classes else "class folders of"
        labels = findings.of(self.files) if self.layout.several else tuple(self.files)
        unknown = [label for label in dangerous if label not in labels]
        if unknown:
            raise DataError(
                f"expected data.malignant to name {classes} {self.folder.root}, got {unknown}; there are "
                f"{list(labels)}: set data.malignant in params.yaml to those that must not be missed"
            )
        covered = findings.with_any(self.files, dangerous) if self.layout.several else dangerous
        if dangerous and not set(self.files) - set(covered):
            raise DataError(
                f"expected {classes} {self.folder.root} besides data.malignant, got {list(self.files)}: if "
                "every label is dangerous, no answer can be a miss; set data.malignant in params.yaml"
            )
        if self.table is not None:
            metadata.check_matched(self.table, largest=max_unmatched, where=str(self.folder.root))


def read(path: Path, layout: Layout) -> Collection:
    """Return what the folder ``path`` contains.

    Files of any name in class folders are pictures, so that broken files are reported, except what `Folder` skips,
    lists of checksums and tables. Where the table defines the classes, a picture is a file that a row names.

    Raises:
        DataError: There is no such folder, there are fewer than two class folders, two folders mean the same class, a
            class is empty, there is no table to define the classes, the folder contains links, special files or
            unreadable names, or as for `metadata.read`.
    """
    if not path.is_dir():
        raise DataError(f"expected a folder of pictures at {path}, there is none; set data.path in params.yaml")
    return _by_table(Folder(path), layout) if layout.classes else _by_folders(Folder(path), layout)


def _by_folders(folder: Folder, layout: Layout) -> Collection:
    names = folder.folders()
    if len(names) < 2:
        raise DataError(
            f"expected at least two class folders in {folder.root}, got {names}; put the pictures of each class into a "
            f"folder with the class's name{_or_define(folder)}"
        )
    _check_distinct(folder.root, names)
    if layout.several:
        _check_sets(folder.root, names)
    files = {label: [name for name in folder.files(label) if not _reason(name)] for label in names}
    for label, ids in files.items():
        if not ids:
            raise DataError(
                f"expected pictures in the class folder {folder.root / label}, it is empty; fill or remove it"
            )
    skipped = _skipped(folder)
    if outside := [name for name in folder.names() if not _reason(name)]:
        skipped[_OUTSIDE] = outside
    every = [name for ids in files.values() for name in ids]
    table = metadata.read(folder, every, layout, elsewhere=skipped.get(_TABLES, ()))
    return Collection(folder, layout, files, skipped, table)


def _by_table(folder: Folder, layout: Layout) -> Collection:
    candidates = [name for name in _all_files(folder) if not _reason(name)]
    skipped = _skipped(folder)
    table = metadata.read(folder, candidates, layout, elsewhere=skipped.get(_TABLES, ()))
    if table is None:
        raise DataError(
            f"expected a table {metadata.NAME} in {folder.root}, there is none, and data.classes defines the classes "
            "by its columns; save it there, or set data.classes to {} for one folder of pictures for each class"
        )
    files: dict[str, list[str]] = {} if layout.several else {label: [] for label in layout.classes}
    for name, row in sorted(table.rows.items()):
        if row.label is not None:
            files.setdefault(row.label, []).append(name)
    there = findings.of(files) if layout.several else [label for label, ids in files.items() if ids]
    for label in layout.classes:
        if label not in there:
            raise DataError(_no_pictures(label, table, folder.root))
    found = table.found
    left = set(candidates) - set(table.rows) - set(found.without_row)
    reasons = {_WITHOUT_CLASS: found.without_class, _WITHOUT_ROW: found.without_row, _OTHER_TYPE: sorted(left)}
    skipped |= {reason: list(names) for reason, names in reasons.items() if names}
    return Collection(folder, layout, files, skipped, table)


def _or_define(folder: Folder) -> str:
    """Return the advice to use the folder's table, if there is one."""
    tables = [name for name in folder.names() if metadata.is_metadata(name)]
    return f", or define the classes by columns of {tables[0]} in data.classes of params.yaml" if tables else ""


def _no_pictures(label: str, table: metadata.Table, root: Path) -> str:
    return (
        f"expected pictures of the class {label!r} in {root}, none of its rows in {table.found.name} names a file "
        f"there: the table names {table.found.without_file[0]!r}; correct the column `file`"
    )


def _check_distinct(path: Path, names: Sequence[str]) -> None:
    """Refuse two names of folders by which people mean the same class, such as ``Benign`` and ``benign ``."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(class_key(name), []).append(name)
    for same in alike.values():
        if len(same) > 1:
            raise DataError(
                f"expected one folder for each class in {path}, got {', '.join(map(ascii, same))}, which differ only "
                "in case, blanks, separators or Unicode form; move their pictures into one folder"
            )


def _check_sets(path: Path, names: Sequence[str]) -> None:
    """Refuse a name that is not the label of a set of findings: two names of one set would be two classes."""
    for name in names:
        members = findings.members(name)
        if not all(map(findings.is_name, members)) or findings.label_of(members) != name:
            label = findings.label_of([each for each in members if findings.is_name(each)])
            raise DataError(
                f"expected class folders in {path} that name sets of findings in alphabetical order, as "
                f"effusion+nodule, or {findings.NO_FINDING}, got {name!a}; rename it to {label!a} or put its pictures "
                "into that folder"
            )


def _all_files(folder: Folder) -> Iterator[str]:
    yield from folder.names()
    for name in folder.folders():
        yield from folder.files(name)


def _reason(name: str) -> str | None:
    """Return why the file ``name`` is no picture, whatever the classes are; None if it may be one."""
    last = PurePosixPath(name).name
    if last in CHECKSUMS:
        return _CHECKSUMS
    return _TABLES if metadata.is_metadata(last) else None


def _skipped(folder: Folder) -> dict[str, list[str]]:
    """Return what is skipped whatever the classes are; the folder's own table is used."""
    found: dict[str, list[str]] = {}
    for entry in folder.skipped():
        found.setdefault(entry.reason, []).append(entry.name)
    for name in _all_files(folder):
        reason = _reason(name)
        if reason and not ("/" not in name and metadata.is_metadata(name)):
            found.setdefault(reason, []).append(name)
    return found


def _drawn(ids: Sequence[str], per_class: int, seed: int) -> list[str]:
    ordered = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return ordered[:per_class] if per_class else ordered
