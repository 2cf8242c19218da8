"""Measured results: one JSON document a measuring command, from which the tables of the documentation are generated."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from buckler.compute.machine import machine
from buckler.errors import DataError
from buckler.state import documents

SCHEMA = 1
DIRECTORY = Path("docs/results")
SCRATCH = Path("reports/quick")  # quick runs measure nothing: they must not replace a result


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number with its interval; ``None`` where it is not known."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    value: float | None
    low: float | None = None
    high: float | None = None


Cell = Figure | bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Column:
    """How the cells of one column are titled and written.

    Attributes:
        key: Of the cell in each row.
        title: In Markdown.
        format: Format specification of its numbers, such as ``.1%``.
        interval: What the intervals of its figures are.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    key: str
    title: str
    format: str = ""
    interval: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells by column key; a row may omit cells."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    columns: tuple[Column, ...]
    rows: tuple[dict[str, Cell], ...]

    def __post_init__(self) -> None:
        keys = {column.key for column in self.columns}
        for row in self.rows:
            if unknown := sorted(set(row) - keys):
                raise DataError(f"expected cells of the columns {sorted(keys)}, got {unknown}")


@dataclass(frozen=True, slots=True)
class Measured:
    """Where the figures come from; ``None`` where that is not known.

    Attributes:
        commit: Of the code.
        dirty: Whether tracked files other than documents differed from the commit.
        machine: Processor, cores and fast number formats.
        seeds: Of every random choice.
        remark: What a reader must know to interpret the figures.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    commit: str | None
    dirty: bool | None
    machine: str | None
    seeds: tuple[int, ...] | None = None
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """The document ``docs/results/<name>.json``.

    Attributes:
        command: Which writes it; None for figures that no command of the project measures.
        settings: What the command was given.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    schema: int
    name: str
    command: str | None
    measured: Measured
    tables: dict[str, Table]
    settings: dict[str, Any] = field(default_factory=dict)

    def write(self, directory: Path = DIRECTORY) -> Path:
        """Write the document into ``directory`` and return its path."""
        path = directory / f"{self.name}.json"
        documents.write_json(path, asdict(self))
        return path


def read(path: Path) -> Results:
    """Return the document in ``path``.

    Raises:
        DataError: It is not a document of this schema, or its name is not that of the file.
    """
    try:
        found = TypeAdapter(Results).validate_python(documents.read_json(path))
    except ValidationError as error:
        raise DataError(f"{path} is not a document of results: {error}") from error
    if (found.schema, found.name) != (SCHEMA, path.stem):
        raise DataError(f"{path}: expected schema {SCHEMA} and name {path.stem}, got {found.schema} and {found.name}")
    return found


def new(
    name: str,
    command: str,
    tables: Mapping[str, Table],
    *,
    seeds: Sequence[int] = (),
    settings: Mapping[str, Any] | None = None,
    remark: str | None = None,
) -> Results:
    """Return results measured now, by this commit on this machine."""
    from buckler.release import bundle  # heavy, and peak memory is measured in processes that import this module

    source = bundle.source_of(Path.cwd())
    measured = Measured(source.commit, source.dirty if source.commit else None, machine(), tuple(seeds), remark)
    return Results(SCHEMA, name, command, measured, dict(tables), dict(settings or {}))


def rate(found: Mapping[str, float]) -> Figure:
    """Return a rate of a report as a figure."""
    return Figure(found["value"], found["low"], found["high"])


def add_options(parser: ArgumentParser, name: str | None = None) -> None:
    """Add ``--out`` and, for a command that may write several documents, ``--name``."""
    parser.add_argument("--out", type=Path, help=f"folder of the results (default: {DIRECTORY})")
    if name:
        parser.add_argument("--name", default=name, help=f"of the document (default: {name})")
