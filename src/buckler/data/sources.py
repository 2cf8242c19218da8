"""Data sources: a folder of class folders, or the seeded generator."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from buckler.data import masks, metadata
from buckler.data.folder import Folder
from buckler.data.names import class_key
from buckler.errors import DataError
from buckler.modality.picture import images, synthetic

CHECKSUMS = frozenset({"SHA256SUMS", "SHA512SUMS", "MD5SUMS"})
# Reasons why files are not pictures, besides those of `leftovers`.
OUTSIDE: Final = "outside the class folders"
_CHECKSUMS: Final = "lists of checksums"
_TABLES: Final = "tables in class folders"


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a source, read on demand.

    Attributes:
        id: POSIX path relative to the source, unique: ``benign/100.jpg``.
        label: Its class.
        group: Identifier of the lesion; empty if unknown.
        extra: Further columns for the manifest.
        read: Returns the bytes.
        mask: Returns which pixels show the lesion, as a black and white PNG; None if the source does not know.
    """

    id: str
    label: str
    read: Callable[[], bytes]
    group: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    mask: Callable[[], bytes] | None = None


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """A folder with one folder of pictures for each class.

    Attributes:
        files: Ids of the files of each class.
        skipped: Further files and folders by the reason why they are not pictures.
        table: Its ``metadata.csv``, if there is one.
    """

    folder: Folder
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
        return Item(name, label, read, group=row.lesion, extra=row.extra)

    def check(self, *, dangerous: Sequence[str], max_unmatched: float) -> None:
        """Check that the folder is the one that the settings describe.

        Args:
            dangerous: Labels that must be class folders, ``data.malignant``.
            max_unmatched: Largest share of rows without a picture and of pictures without a row.

        Raises:
            DataError: It is not.
        """
        unknown = [label for label in dangerous if label not in self.files]
        if unknown:
            raise DataError(
                f"expected data.malignant to name class folders of {self.folder.root}, got {unknown}; there are "
                f"{list(self.files)}: set data.malignant in params.yaml to those that must not be missed"
            )
        if dangerous and not set(self.files) - set(dangerous):
            raise DataError(
                f"expected class folders in {self.folder.root} besides data.malignant, got {list(self.files)}: if "
                "every label is dangerous, no answer can be a miss; set data.malignant in params.yaml"
            )
        if self.table is not None:
            pictures, where = sum(map(len, self.files.values())), str(self.folder.root)
            metadata.check_matched(self.table.found, pictures, largest=max_unmatched, where=where)


def class_folders(path: Path) -> ClassFolders:
    """Return what the folder ``path`` of class folders contains.

    Files of any name in class folders are included, so that broken files are reported, except what `Folder` skips,
    lists of checksums and ``metadata.csv``, whose ``lesion_id`` becomes the group of a picture.

    Raises:
        DataError: There is no such folder, there are fewer than two classes, two folders mean the same class, a class
            is empty, the folder contains links, special files or unreadable names, or as for `metadata.read`.
    """
    if not path.is_dir():
        raise DataError(f"expected a folder of class folders at {path}, there is none; set data.path in params.yaml")
    folder = Folder(path)
    names = folder.folders()
    if len(names) < 2:
        raise DataError(
            f"expected at least two class folders in {path}, got {names}; put the pictures of each class"
            " into a folder with the class's name"
        )
    _check_distinct(path, names)
    files = {label: [name for name in folder.files(label) if not _reason(name)] for label in names}
    for label, ids in files.items():
        if not ids:
            raise DataError(f"expected pictures in the class folder {path / label}, it is empty; fill or remove it")
    skipped = _skipped(folder, names)
    return ClassFolders(folder, files, skipped, metadata.read(folder, files, elsewhere=skipped.get(_TABLES, ())))


def directory(path: Path, *, per_class: int, seed: int) -> list[Item]:
    """Return pictures of the class folders in ``path``, sorted by id; arguments and errors as of `class_folders`."""
    return class_folders(path).items(per_class=per_class, seed=seed)


def generated(*, per_class: int, seed: int, size: int) -> list[Item]:
    """Return ``per_class`` generated pictures of each class, ``size`` pixels a side, as PNG.

    Raises:
        DataError: ``per_class`` is not positive: the generator has no "all".
    """
    if per_class < 1:
        raise DataError(f"expected data.per_class of at least 1 for the synthetic source, got {per_class}")
    drawings = [_Drawing(label, index, seed, size) for label in synthetic.LABELS for index in range(per_class)]
    return [Item(f"{each.label}/{each.index:05}.png", each.label, each, mask=each.mask) for each in drawings]


@dataclass(frozen=True, slots=True)
class _Drawing:
    label: str
    index: int
    seed: int
    size: int

    def __call__(self) -> bytes:
        return images.to_png(synthetic.draw(self.label, self.index, seed=self.seed, size=self.size))

    def mask(self) -> bytes:
        return masks.to_png(synthetic.lesion_mask(self.label, self.index, seed=self.seed, size=self.size))


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


def _reason(name: str) -> str | None:
    """Return why the file ``name`` of a class folder is no picture; None if it may be one."""
    last = PurePosixPath(name).name
    if last in CHECKSUMS:
        return _CHECKSUMS
    return _TABLES if metadata.is_metadata(last) else None


def _skipped(folder: Folder, labels: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in folder.skipped():
        found.setdefault(entry.reason, []).append(entry.name)
    for name in folder.names():
        if not metadata.is_metadata(name):
            found.setdefault(_CHECKSUMS if name in CHECKSUMS else OUTSIDE, []).append(name)
    for label in labels:
        for name in folder.files(label):
            if reason := _reason(name):
                found.setdefault(reason, []).append(name)
    return found


def _drawn(ids: Sequence[str], per_class: int, seed: int) -> list[str]:
    ordered = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return ordered[:per_class] if per_class else ordered
