"""Assigns pictures to train, calibration and test: stratified, seeded, each group in one split."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from buckler.data import manifest
from buckler.data.pictures import SPLITS
from buckler.errors import DataError
from buckler.modality.base import Pair


def group(frame: pd.DataFrame, pairs: Sequence[Pair]) -> NDArray[np.int64]:
    """Return a group number for every row, ``(n,)``; pictures of one group must be in the same split.

    Near-duplicates, pictures with the same ``group`` in the manifest and identical files form a group, transitively.
    """
    links = [(pair.first, pair.second) for pair in pairs]
    for column in ("group", "sha256"):
        first: dict[str, int] = {}
        for place, value in enumerate(frame[column]):
            if value:
                links.append((first.setdefault(value, place), place))
    return components(len(frame), links)


def components(count: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return for each of ``count`` items the smallest member of its connected component, ``(count,)``."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.array([root(item) for item in range(count)], np.int64)


def assign(
    frame: pd.DataFrame, groups: NDArray[np.int64], *, test: float, calibration: float, seed: int
) -> NDArray[np.str_]:
    """Return the split's name for every row of ``frame``, ``(n,)``.

    The result does not depend on row order or file names: groups are processed by size, then by a hash of their
    contents and ``seed``. Each group goes to the split that it overfills least; ties go to the split that lacks most.

    Args:
        frame: A manifest.
        groups: Result of ``group``.
        test: Share of each class for the test split, above 0.
        calibration: Share of each class for the calibration split, above 0; the rest is the training split.
        seed: Seed of the order of groups of equal size.

    Raises:
        DataError: The shares leave nothing to train on, or a class has too few groups to be in every split.
    """
    if not (test > 0 and calibration > 0 and test + calibration < 1):
        raise DataError(
            f"expected shares above 0 for test and calibration, below 1 together, got {test} and"
            f" {calibration}; change section split of params.yaml"
        )
    labels = manifest.labels(frame)
    target = _targets(frame, labels, test, calibration)
    missing = target.astype(np.float64)
    result = np.empty(len(frame), dtype=f"<U{max(map(len, SPLITS))}")
    for members in _ordered(frame, groups, seed):
        counts = np.array([(frame["label"].to_numpy()[members] == label).sum() for label in labels])
        chosen = _choose(counts, missing, target)
        missing[chosen] -= counts
        result[members] = SPLITS[chosen]
    _check(frame, result, labels)
    return result


def _targets(frame: pd.DataFrame, labels: Sequence[str], test: float, calibration: float) -> NDArray[np.int64]:
    """Return the target numbers of pictures, ``(splits, classes)``."""
    sizes = np.array([(frame["label"] == label).sum() for label in labels])
    tested, calibrated = (np.rint(sizes * share).astype(np.int64) for share in (test, calibration))
    return np.stack([sizes - tested - calibrated, calibrated, tested])


def _ordered(frame: pd.DataFrame, groups: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """Return the rows of each group, largest first, because large groups need splits with room."""
    digests = frame["sha256"].to_numpy()
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)

    def key(rows: NDArray[np.int64]) -> tuple[int, bytes]:
        return -len(rows), hashlib.sha256(f"{seed}:{min(digests[rows])}".encode()).digest()

    return sorted(members, key=key)


def _choose(counts: NDArray[np.int64], missing: NDArray[np.float64], target: NDArray[np.int64]) -> int:
    """Return the index of the split that a group with ``counts`` per class overfills least, then of the emptiest."""
    overfill = np.maximum(counts - np.maximum(missing, 0), 0).sum(axis=1)
    share = (counts * missing / np.maximum(target, 1)).sum(axis=1)
    return min(range(len(SPLITS)), key=lambda place: (overfill[place], -share[place]))


def _check(frame: pd.DataFrame, result: NDArray[np.str_], labels: Sequence[str]) -> None:
    for label in labels:
        absent = sorted(set(SPLITS) - set(result[frame["label"].to_numpy() == label]))
        if absent:
            raise DataError(
                f"expected pictures of class {label!r} in every split, none for {absent}: too few"
                " distinct pictures; add some, or change the shares in section split of params.yaml"
            )
