"""Says what of a folder of pictures cannot be used, belongs together or looks like a mistake."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableInputError
from buckler.modality.base import Pair

_NUMBERS: Final = re.compile(r"\d[\d,]*")
_STILLS: Final = "remove them, or save single pictures with `ffmpeg -i FILE -vf fps=1 FILE-%03d.png`"
_INTACT: Final = "replace them by intact copies, or remove them"
_SPLITS: Final = {"train", "training", "test", "testing", "val", "valid", "validation", "calibration"}


@dataclass(frozen=True, slots=True)
class UnusableFiles:
    """Files that cannot be used for one ``reason``: their ``ids`` and what to ``do``."""

    reason: str
    do: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Related:
    """Pictures in groups: identical or near-identical ones, and those of one group of the table.

    Attributes:
        groups: Groups with several pictures.
        pictures: Pictures in these groups.
        largest: Pictures in the largest of them.
        of: All pictures.
        contradictions: Near-identical pictures of different classes.
    """

    groups: int
    pictures: int
    largest: int
    of: int
    contradictions: tuple[tuple[str, str], ...]


def unusable(faults: Mapping[str, UnusableInputError]) -> list[UnusableFiles]:
    """Return ``faults`` (by id) by their reason, the most frequent first.

    Reasons that differ only in numbers, such as those of missing rows, are one; the first one is stated.
    """
    by_reason: dict[str, list[str]] = {}
    for name, fault in sorted(faults.items()):
        by_reason.setdefault(_NUMBERS.sub("N", str(fault)), []).append(name)
    ordered = sorted(by_reason.values(), key=lambda ids: (-len(ids), str(faults[ids[0]])))
    return [UnusableFiles(*_reason_and_advice(faults[ids[0]]), tuple(ids)) for ids in ordered]


def _reason_and_advice(fault: UnusableInputError) -> tuple[str, str]:
    """Return the reason in the decoder's words, and what to do with several files in a folder."""
    reason, mark, do = str(fault).rpartition("; ")
    reason = reason if mark else do
    if fault.code is not ErrorCode.IMAGE_UNSUPPORTED or not mark:
        return reason, _INTACT
    if " video" in reason:
        return reason, _STILLS
    if do.startswith("send"):
        return reason, "remove them: they are not pictures"
    return reason, f"{do}, one by one, or remove them"


def related(frame: pd.DataFrame, pairs: Sequence[Pair], groups: NDArray[np.int64]) -> Related:
    """Return which rows of the manifest ``frame`` belong together.

    Args:
        frame: A manifest.
        pairs: Near-duplicates among its rows, of `Modality.near_duplicates`.
        groups: Result of `splits.group`.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    ids, labels = frame["id"].tolist(), frame["label"].tolist()
    across = [(ids[pair.first], ids[pair.second]) for pair in pairs if labels[pair.first] != labels[pair.second]]
    several = sizes[sizes > 1]
    return Related(
        len(several),
        int(several.sum()),
        int(several.max(initial=0)),
        len(frame),
        tuple(sorted((min(pair), max(pair)) for pair in across)),
    )


def hints(files: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what looks like a mistake in the arrangement of the class folders ``files``."""
    if {label.lower() for label in files} <= _SPLITS:
        return [
            f"the class folders are called {', '.join(files)}: expected one folder for each class, not for each split; "
            "Buckler makes the splits itself"
        ]
    nested = Counter(PurePosixPath(name).parts[1] for names in files.values() for name in names if name.count("/") > 1)
    return [f"folders inside the class folders ({', '.join(sorted(nested))}) are read as their class"] if nested else []
