"""Data sources: a folder of class folders, or the seeded generator."""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from buckler.data import manifest, masks
from buckler.data.folder import Folder
from buckler.errors import DataError
from buckler.modality.picture import images, synthetic

METADATA = "metadata.csv"
METADATA_COLUMNS = ("file", "label", "lesion_id")
NO_PICTURES = frozenset({METADATA, "SHA256SUMS"})


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


def directory(path: Path, *, per_class: int, seed: int) -> list[Item]:
    """Return pictures of the class folders in ``path``, sorted by id.

    Files of any name in class folders are included, so that broken files are reported, except hidden files,
    ``SHA256SUMS`` and ``metadata.csv``. The optional ``metadata.csv`` must have the columns ``file``, ``label`` and
    ``lesion_id``. ``lesion_id`` becomes the group; other columns are added to the manifest, under ``metadata_<name>``
    if the manifest already has a column of that name.

    Args:
        path: Folder with one subfolder per class; their names are the labels.
        per_class: Number of pictures per class, chosen at random; 0 takes all.
        seed: Seed of the choice, which does not depend on the order of the files.

    Raises:
        DataError: There is no such folder, there are fewer than two classes, a class is empty, the metadata are
            inconsistent, or the folder contains links, special files or unreadable names.
    """
    folder, files, table = Folder(path), class_files(path), metadata(path)
    return sorted(
        (_item(folder, file, label, table) for label in files for file in _drawn(files[label], per_class, seed)),
        key=lambda item: item.id,
    )


def class_files(path: Path) -> dict[str, list[str]]:
    """Return the ids of the files in each class folder of ``path``, all of them; errors as `directory`."""
    if not path.is_dir():
        raise DataError(f"expected a folder of class folders at {path}, there is none; set data.path in params.yaml")
    folder = Folder(path)
    names = folder.folders()
    if len(names) < 2:
        raise DataError(
            f"expected at least two class folders in {path}, got {names}; put the pictures of each class"
            " into a folder with the class's name"
        )
    return {label: _files(folder, label) for label in names}


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


def _files(folder: Folder, label: str) -> list[str]:
    """Return the ids of the files of a class."""
    ids = [file for file in folder.files(label) if PurePosixPath(file).name not in NO_PICTURES]
    if not ids:
        raise DataError(f"expected pictures in the class folder {folder.root / label}, it is empty; fill or remove it")
    return ids


def _drawn(ids: list[str], per_class: int, seed: int) -> list[str]:
    ordered = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return ordered[:per_class] if per_class else ordered


def _item(folder: Folder, name: str, label: str, table: pd.DataFrame | None) -> Item:
    read = partial(folder.read, name)
    if table is None:
        return Item(name, label, read)
    if name not in table.index:
        return Item(name, label, read, extra=dict.fromkeys(table.columns.drop(["label", "lesion_id"]), ""))
    row = {str(column): str(value) for column, value in table.loc[name].items()}
    if row.pop("label") != label:
        raise DataError(f"{folder.root / METADATA} labels {name} {table.loc[name, 'label']!r}, its folder {label!r}")
    return Item(name, label, read, group=row.pop("lesion_id"), extra=row)


def metadata(path: Path) -> pd.DataFrame | None:
    """Return the rows of the metadata.csv in ``path`` by file; columns named like one of the manifest are renamed.

    Raises:
        DataError: It is no CSV, lacks a column, or has several rows of a file.
    """
    file = path / METADATA
    if not file.exists():
        return None
    try:
        table = pd.read_csv(io.BytesIO(Folder(path).read(METADATA)), dtype="str", keep_default_na=False)
    except ValueError as error:  # pandas' ParserError, EmptyDataError and UnicodeDecodeError are ValueErrors
        raise DataError(f"expected {file} to be a CSV in UTF-8: {error}") from error
    missing = [name for name in METADATA_COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"expected {file} to have the columns {list(METADATA_COLUMNS)}, {missing} are missing; "
            f"it has {list(table.columns)}"
        )
    twice = table.loc[table["file"].duplicated(), "file"]
    if len(twice):
        raise DataError(f"expected one row per file in {file}, {twice.iloc[0]!r} has several")
    clash = {name: f"metadata_{name}" for name in manifest.COLUMNS if name != "label"}
    return table.set_index("file").rename(columns=clash)
