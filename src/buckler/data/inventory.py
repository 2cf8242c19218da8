"""Says in one line what a folder of pictures contains and what of it is used: nothing is left out in silence."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from buckler.data import metadata
from buckler.data.collection import Collection

_SHOWN: Final = 3  # names listed of a kind


def line(found: Collection, taken: Sequence[str], undecodable: Sequence[str]) -> str:
    """Return how many files were found, used and skipped, and how the table of the pictures fits them.

    The files used and skipped, folders apart, together are those found.

    Args:
        found: The folder.
        taken: Ids of the pictures drawn from it.
        undecodable: Those of them that do not decode.
    """
    skipped = {reason: list(names) for reason, names in found.skipped.items()}
    apart = [name for names in skipped.values() for name in names if name.endswith("/")]
    skipped = {reason: [name for name in names if not name.endswith("/")] for reason, names in skipped.items()}
    drawn = set(taken)
    skipped["not drawn (data.per_class)"] = [
        name for names in found.files.values() for name in names if name not in drawn
    ]
    skipped["undecodable, for quarantine"] = list(undecodable)
    used = len(taken) - len(undecodable)
    files = used + sum(map(len, skipped.values()))
    parts = [f"{files} files found", f"{used} used", *_reasons(skipped)]
    parts += [f"folders skipped: {_names(apart)}"] * bool(apart)
    return "; ".join([", ".join(parts), *_nested(found), *_table(found.table)])


def _reasons(skipped: Mapping[str, Sequence[str]]) -> Iterator[str]:
    counts = [f"{len(names)} {reason} ({_names(names)})" for reason, names in skipped.items() if names]
    yield f"{sum(map(len, skipped.values()))} skipped" + f": {', '.join(counts)}" * bool(counts)


def _nested(found: Collection) -> Iterator[str]:
    nested = [name for names in found.files.values() for name in names if name.count("/") > 1]
    if nested and not found.layout.classes:
        places = sorted({str(PurePosixPath(name).parent) for name in nested})
        yield f"{len(nested)} files in folders inside the class folders ({_names(places)})"


def _table(table: metadata.Table | None) -> Iterator[str]:
    if table is None:
        yield f"no {metadata.NAME}, so no group is known"
        return
    found = table.found
    rows, pictures = found.without_file, found.without_row
    yield (
        f"{found.name}: {found.rows} rows, {len(rows)} rows without a picture{_such_as(rows)}, "
        f"{len(pictures)} pictures without a row{_such_as(pictures)}, {_groups(found)}"
    )
    if found.respelled:
        yield f"{found.respelled} rows name their picture in another spelling"
    if found.groups_unknown:
        texts = ", ".join(f"{text or 'empty'} {count}" for text, count in found.groups_unknown.items())
        yield f"{found.group} unknown in {sum(found.groups_unknown.values())} rows ({texts})"
    if found.groups_across:
        yield f"{len(found.groups_across)} groups have pictures of several classes ({_names(found.groups_across)})"


def _groups(found: metadata.Metadata) -> str:
    return f"{found.groups} groups ({found.group})" if found.group else "no column groups them (data.group)"


def _such_as(names: Sequence[str]) -> str:
    return f" ({_names(names)})" if names else ""


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
