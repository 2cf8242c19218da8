"""The result of `buckler check`, and its text for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buckler.data.metadata import Metadata
from buckler.data.survey import Related, UnusableFiles

_SHOWN = 5  # names listed of a kind
_LARGEST_SHARE = 0.1  # of all pictures, in one group


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: files in the folder, those that ``data.per_class`` takes, usable ones, and their splits."""

    label: str
    files: int
    taken: int
    usable: int
    train: int = 0
    calibration: int = 0
    test: int = 0


@dataclass(frozen=True, slots=True)
class NeedRow:
    """Least number of pictures ``needed``, how many there ``are``, and what needs them."""

    needed: int
    are: int
    what: str

    @property
    def met(self) -> bool:
        """Return whether there are enough."""
        return self.are >= self.needed


@dataclass(frozen=True, slots=True)
class Duration:
    """Estimated seconds of a run on this machine, in all and by stage: the least and the most."""

    least: float
    most: float
    stages: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class FolderCheck:
    """Whether a folder will do.

    Attributes:
        folder: Its path.
        settings: The settings that it was checked with, in words.
        refusals: Why it will not do, a sentence each; none if it will.
        found: What the folder contains and what of it is used, as the stage ``ingest`` prints it.
        notes: What is worth knowing, but no obstacle.
        remedies: Changes, one of which would meet all ``needs``.
        profiles: Other profiles whose needs it meets.
    """

    folder: str
    settings: str
    refusals: tuple[str, ...]
    found: str = ""
    notes: tuple[str, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    unusable: tuple[UnusableFiles, ...] = ()
    metadata: Metadata | None = None
    related: Related | None = None
    needs: tuple[NeedRow, ...] = ()
    remedies: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    duration: Duration | None = None

    @property
    def fits(self) -> bool:
        """Return whether the folder will do."""
        return not self.refusals


def text(check: FolderCheck) -> str:
    """Return ``check`` for people."""
    parts = [
        [f"{check.folder}, with {check.settings}", *[check.found] * bool(check.found)],
        _classes(check.classes),
        _unusable(check.unusable),
        _related(check.related),
        _needs(check.needs),
        _listed("Notes", check.notes),
        _duration(check.duration),
        _verdict(check),
    ]
    return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines) + "\n"


def _classes(rows: Sequence[ClassRow]) -> Iterator[str]:
    if rows:
        width = max(len("class"), *(len(row.label) for row in rows))
        yield f"{'class':<{width}}   files   taken  usable |  train  calibration   test"
        for row in rows:
            counts = (
                f"{row.files:>7} {row.taken:>7} {row.usable:>7} | {row.train:>6} {row.calibration:>12} {row.test:>6}"
            )
            yield f"{row.label:<{width}} {counts}"


def _unusable(kinds: Sequence[UnusableFiles]) -> Iterator[str]:
    if kinds:
        yield f"Unusable files: {sum(len(kind.ids) for kind in kinds)}"
        for kind in kinds:
            yield f"  {len(kind.ids)}: {kind.reason}"
            yield f"    {names(kind.ids)}"
            yield f"    {kind.do}"


def _related(found: Related | None) -> Iterator[str]:
    if found and found.groups:
        yield (
            f"Duplicates: {found.pictures} pictures are in {found.groups} groups of nearly identical pictures "
            "or of one lesion or patient (data.group); a group stays in one split"
        )
        if found.largest > _LARGEST_SHARE * found.of:
            yield (
                f"  {found.largest} of them are in one group, which may fill a split; if they show different "
                "patients, raise split.near_duplicate_correlation until only copies are alike"
            )
        if found.contradictions:
            yield f"  {len(found.contradictions)} pairs look alike and have different classes; look at them:"
            yield from (f"    {first} and {second}" for first, second in found.contradictions[:_SHOWN])
            if len(found.contradictions) > _SHOWN:
                yield f"    and {len(found.contradictions) - _SHOWN} more"


def _needs(rows: Sequence[NeedRow]) -> Iterator[str]:
    if rows:
        yield " needed  there are"
        for row in rows:
            yield f"{row.needed:>7} {row.are:>10}{'   ' if row.met else ' ! '}{row.what}"


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{title}:"
        yield from (f"  - {line}" for line in lines)


def _duration(found: Duration | None) -> Iterator[str]:
    if found:
        yield f"Time of a whole run on this machine: about {_range(found.least, found.most)} (an estimate)"
        largest = sorted(found.stages.items(), key=lambda each: -each[1][1])[:_SHOWN]
        yield f"  most of it: {', '.join(f'{name} {_range(low, high)}' for name, (low, high) in largest)}"


def _verdict(check: FolderCheck) -> Iterator[str]:
    if check.fits:
        yield f"This folder will do for {check.settings}."
        return
    yield f"This folder will not do for {check.settings}:"
    yield from (f"  - {line}" for line in check.refusals)
    if check.remedies:
        yield "One of these changes is enough for the numbers of pictures:"
        yield from (f"  - {line}" for line in check.remedies)
    if check.profiles:
        yield f"Profiles whose numbers of pictures it has: {', '.join(check.profiles)}"


def names(ids: Sequence[str]) -> str:
    """Return the first of ``ids``, and how many more there are."""
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{', '.join(ids[:_SHOWN])}{more}"


def _range(low: float, high: float) -> str:
    """Return both durations, or one if they are the same when rounded."""
    return spoken(high) if spoken(low) == spoken(high) else f"{spoken(low)} to {spoken(high)}"


def spoken(seconds: float) -> str:
    """Return a duration rounded as an estimate deserves: ``40 seconds``, ``25 minutes``, ``1 h 20 min``."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    minutes = round(seconds / 60)
    if minutes < 10:
        return f"{minutes} minute{'s' * (minutes > 1)}"
    minutes = 5 * round(minutes / 5)
    return f"{minutes} minutes" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
