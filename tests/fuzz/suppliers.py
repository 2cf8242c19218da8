"""Fuzz target: the table that a supplier sends with pictures."""

import tempfile
from functools import cache
from pathlib import Path

from buckler.data import metadata as table
from buckler.data import sources
from buckler.errors import DataError
from tests.fuzz.contract import require
from tests.fuzz.mutation import of_parts

NAMES = ("benign/1.png", "benign/2.png", "malignant/3.png")


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="buckler-fuzz-"))
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"pixels")
    return folder


def metadata(data: bytes) -> bool:
    """Any bytes as ``metadata.csv``."""
    (_folder() / table.NAME).write_bytes(data)
    try:
        found = sources.directory(_folder(), per_class=0, seed=0)
    except DataError:
        return False
    require(tuple(item.id for item in found) == NAMES, "other pictures")
    for item in found:
        require(item.id.startswith(f"{item.label}/"), "another label than the folder's")
        texts = [item.group, *item.extra, *item.extra.values()]
        require(all(isinstance(text, str) for text in texts), "a value that is no text")
        require(item.extra.keys() == found[0].extra.keys(), "other columns than the first picture's")
    return True


MUTATORS = {"metadata": of_parts(lambda data: data.splitlines(keepends=True))}
