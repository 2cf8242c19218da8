"""What the stage ``split`` reports of the pictures that belong together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupSizes:
    """Number of groups of related pictures, of those with several pictures, and the size of the largest."""

    all: int
    of_several: int
    largest: int


@dataclass(frozen=True, slots=True)
class PictureGroup:
    """Related pictures, which are all in one split."""

    split: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Two similar pictures: differing bits of their hashes, correlation of their thumbnails."""

    ids: tuple[str, str]
    bits: int
    correlation: float
    same_label: bool
