"""Measured results: one JSON document for each benchmark, from which the documentation's tables are generated."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from buckler.compute.machine import machine
from buckler.errors import DataError
from buckler.measurements.results import Rate
from buckler.state import documents

SCHEMA = 1
DIRECTORY = Path("docs/results")
SCRATCH = Path("reports/quick")  # results of quick runs, which must not replace measured ones


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number and its interval; ``None`` where unknown."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    value: float | None
    low: float | None = None
    high: float | None = None


CellValue = Estimate | bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Column:
    """Title and format of one column.

    Attributes:
        key: Key of the column's cell in each row.
        title: Title in Markdown.
        format: Format specification of the numbers, such as ``.1%``.
        interval: Name of the intervals, such as ``95 % interval``.
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
    rows: tuple[dict[str, CellValue], ...]

    def __post_init__(self) -> None:
        keys = {column.key for column in self.columns}
        for row in self.rows:
            if unknown := sorted(set(row) - keys):
                raise DataError(f"expected cells of the columns {sorted(keys)}, got {unknown}")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Origin of the figures; ``None`` where unknown.

    Attributes:
        commit: Commit of the code.
        dirty: Whether tracked files other than documents differed from the commit.
        machine: Processor, cores and fast number formats.
        seeds: Seeds of all random choices.
        remark: Text that a reader needs to interpret the figures.
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
        command: Command that writes the document; None for figures that no command of the project measures.
        settings: Arguments of the command and facts about the run.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    schema: int
    name: str
    command: str | None
    measured: Provenance
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
        DataError: The document has another schema, or its name differs from the file's.
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
    """Return results with the commit and the machine of this process."""
    from buckler.release import bundle  # large, and processes that import this module measure their peak memory

    source = bundle.source_of(Path.cwd())
    measured = Provenance(source.commit, source.dirty if source.commit else None, machine(), tuple(seeds), remark)
    return Results(SCHEMA, name, command, measured, dict(tables), dict(settings or {}))


def rate(found: Rate) -> Estimate:
    """Return a rate of a report as an estimate."""
    return Estimate(found.value, found.low, found.high)


def add_options(parser: ArgumentParser, name: str | None = None) -> None:
    """Add ``--out`` and, for a command that may write several documents, ``--name``."""
    parser.add_argument("--out", type=Path, help=f"folder of the results (default: {DIRECTORY})")
    if name:
        parser.add_argument("--name", default=name, help=f"name of the document (default: {name})")
