"""Fuzz target: the table that a supplier sends with pictures."""

import tempfile
from functools import cache
from pathlib import Path

from buckler.data import collection
from buckler.data import metadata as table
from buckler.data.layout import Layout
from buckler.data.sources import Item
from buckler.errors import DataError
from tests.fuzz.contract import require
from tests.fuzz.mutation import of_parts

NAMES = ("benign/1.png", "benign/2.png", "malignant/3.png")
BY_FOLDER = Layout()
BY_TABLE = Layout({"ill": {"label": ["malignant", 2]}, "well": {"label": ["benign"]}}, group="")


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="buckler-fuzz-"))
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"pixels")
    return folder


def metadata(data: bytes) -> bool:
    """Any bytes as ``metadata.csv``, beside class folders and where it defines the classes."""
    (_folder() / table.NAMES[0]).write_bytes(data)
    found = _items(BY_FOLDER)
    require(not found or tuple(item.id for item in found) == NAMES, "other pictures")
    for item in found:
        require(item.id.startswith(f"{item.label}/"), "another label than the folder's")
    by_table = _items(BY_TABLE)
    require({item.id for item in by_table} <= set(NAMES), "a picture that the folder has not")
    require({item.label for item in by_table} <= set(BY_TABLE.classes), "a class that is not defined")
    return bool(found or by_table)


def _items(layout: Layout) -> list[Item]:
    try:
        found = collection.read(_folder(), layout).items(per_class=0, seed=0)
    except DataError:
        return []
    for item in found:
        texts = [item.group, *item.extra, *item.extra.values()]
        require(all(isinstance(text, str) for text in texts), "a value that is no text")
        require(item.extra.keys() == found[0].extra.keys(), "other columns than the first picture's")
    return found


MUTATORS = {"metadata": of_parts(lambda data: data.splitlines(keepends=True))}
