"""The manifest: one row per picture, from ingest to the splits."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from buckler.errors import DataError
from buckler.state import documents

COLUMNS = ("id", "path", "sha256", "label", "bytes", "source", "group")
"""Required columns, in this order; facts of the files and columns from the source's metadata follow, as text."""

_INTEGERS = {"bytes": "int64"}


def build(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Return ``rows`` as a manifest: fixed columns first, then the others, sorted by id.

    The facts of a file that does not decode are empty.
    """
    extra = sorted({name for row in rows for name in row} - set(COLUMNS))
    frame = pd.DataFrame(list(rows), columns=[*COLUMNS, *extra])
    frame[extra] = frame[extra].astype(object).fillna("")
    strings = {name: "str" for name in frame.columns if name not in _INTEGERS}
    return frame.astype({**strings, **_INTEGERS}).sort_values("id", ignore_index=True)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write ``frame`` as CSV, the same bytes for the same content on every platform, without formulas."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = frame.map(documents.to_cell).rename(columns=documents.to_cell)
    cells.to_csv(path, index=False, lineterminator="\n")


def read(path: Path) -> pd.DataFrame:
    """Return the manifest in ``path``; text is not converted, so that a class may be called ``NA`` or ``1``.

    Raises:
        DataError: The file is missing or not a CSV, lacks a column, or has an invalid number.
    """
    try:
        header = pd.read_csv(path, nrows=0).columns
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise DataError(f"{path}: expected the columns {list(COLUMNS)}, {missing} are missing")
        types = {name: _INTEGERS.get(name, "str") for name in header}
        frame = pd.read_csv(path, dtype=types, keep_default_na=False)
    except FileNotFoundError as error:
        raise DataError(f"no {path}; run the stage that writes it: dvc repro") from error
    except ValueError as error:  # pandas' ParserError, EmptyDataError and UnicodeDecodeError are ValueErrors
        raise DataError(f"{path} is not a manifest: {error}") from error
    texts = {name: frame[name].map(documents.from_cell).astype("str") for name in header if name not in _INTEGERS}
    return frame.assign(**texts).rename(columns=documents.from_cell)


def labels(frame: pd.DataFrame) -> list[str]:
    """Return the labels that occur, sorted; class indices follow this order everywhere."""
    return sorted(frame["label"].unique().tolist())


def paths(frame: pd.DataFrame) -> list[Path]:
    """Return the pictures' paths, in the order of the rows."""
    return [Path(path) for path in frame["path"]]


def version(frame: pd.DataFrame) -> str:
    """Return ``sha256:...`` over contents and labels, independent of order and file names."""
    lines = sorted(f"{digest} {label}\n" for digest, label in zip(frame["sha256"], frame["label"], strict=True))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
