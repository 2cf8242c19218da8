"""What to change where the splits have too few pictures: shares, pictures or settings, by name and value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from buckler.data import manifest, splits
from buckler.errors import DataError
from buckler.release.requirements import Counts, Demands, Need, Part, sentences, unmet

# Largest and smallest values that are proposed.
_MOST_KEPT_BACK = 0.8  # share of test and calibration together; the rest trains the model
_LARGEST_MARGIN = 25  # per cent
_LOWEST_SENSITIVITY = 80  # per cent
_JUDGED: set[Part] = {"test", "attacked"}
_SPLITS: Mapping[Part, str] = {"calibration": "calibration", "test": "test", "attacked": "test"}


@dataclass(frozen=True, slots=True)
class Division:
    """How a manifest is divided.

    Attributes:
        frame: The manifest.
        groups: Result of `splits.group`: pictures of one group stay together.
        shares: Of ``test`` and ``calibration``.
        seed: ``split.seed``.
    """

    frame: pd.DataFrame
    groups: NDArray[np.int64]
    shares: Mapping[str, float]
    seed: int

    @property
    def labels(self) -> list[str]:
        """Return the classes."""
        return manifest.labels(self.frame)

    def assigned(self) -> NDArray[np.str_]:
        """Return the split of every row; raises DataError as `splits.assign`."""
        return splits.assign(self.frame, self.groups, **self.shares, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Shortage:
    """What is missing, a sentence for each need, and what would help, a sentence for each way; one way is enough."""

    missing: tuple[str, ...]
    remedies: tuple[str, ...]

    def text(self, between: str) -> str:
        """Return both, with ``between`` between the sentences."""
        ways = (f"one of these changes is enough: {self.remedies[0]}", *self.remedies[1:]) if self.remedies else ()
        return f"too few pictures: {between.join([*self.missing, *ways])}"


def shortage(
    demands: Demands, division: Division, counts: Counts, per_class: int, *, available: float
) -> Shortage | None:
    """Return which demands are not met; None if all are.

    Args:
        demands: The settings that need pictures.
        division: The pictures and their shares.
        counts: Pictures in each part of ``division``, of `Demands.counts`.
        per_class: ``data.per_class``, 0 for all.
        available: How many pictures of every class the source has: infinite for the generator, 0 if that is unknown.
    """
    short = unmet(demands.needs(division.labels), counts)
    if not short:
        return None
    parts = {need.part for need in short}
    found = [
        *_other_shares(demands, division, counts),
        *_more_pictures(division, short, per_class, available, demands.max_imbalance),
    ]
    if demands.attacked and "attacked" in parts:
        found.append("set attack.records to 0: all test pictures are attacked")
    # A weaker demand is proposed only if it is enough.
    if parts <= _JUDGED:
        found += _wider_margin(demands, division.labels, counts)
    if parts == {"calibration"}:
        found += _lower_sensitivity(demands, division.labels, counts)
    return Shortage(tuple(sentences(short, counts)), tuple(found))


def _other_shares(demands: Demands, division: Division, counts: Counts) -> list[str]:
    """Return the shares that meet all demands with the same pictures, found by trying them."""
    needs, shares = demands.needs(division.labels), dict(division.shares)
    while short := unmet(needs, counts):
        shares = _grown(shares, division, short, counts)
        if sum(shares.values()) > _MOST_KEPT_BACK or not all(need.part in _SPLITS for need in short):
            return []
        try:
            counts = demands.counts(division.frame, replace(division, shares=shares).assigned())
        except DataError:  # too few pictures for any shares
            return []
    changes = [
        f"split.{name} from {division.shares[name]:g} to {share:g}"
        for name, share in shares.items()
        if share != division.shares[name]
    ]
    left = 1 - sum(shares.values())
    return [f"raise {' and '.join(changes)}: {left:.0%} of the pictures are left to train on"] if changes else []


def _grown(shares: Mapping[str, float], division: Division, short: Sequence[Need], counts: Counts) -> dict[str, float]:
    """Return ``shares``, in whole per cent, with the pictures that ``short`` lacks."""
    grown = dict(shares)
    for need in (need for need in short if need.part in _SPLITS):
        split, total = _SPLITS[need.part], sum(division.frame["label"].isin(need.labels))
        lacking = max(0.01, (need.count - need.seen(counts)) / total)
        grown[split] = max(grown[split], math.ceil(round(100 * (shares[split] + lacking), 6)) / 100)
    return grown


def _more_pictures(
    division: Division, short: Sequence[Need], per_class: int, available: float, max_imbalance: float
) -> list[str]:
    """Return how many pictures are missing at the present shares, and to keep the classes within ``max_imbalance``."""
    lacking: dict[tuple[str, ...], int] = {}
    most = 0  # of a class
    for need in short:
        share = division.shares[_SPLITS[need.part]] if need.part in _SPLITS else 1
        total = math.ceil(need.count / share)
        have = sum(division.frame["label"].isin(need.labels))
        most = max(most, math.ceil(total / len(need.labels)))
        lacking[need.labels] = max(lacking.get(need.labels, 1), total - have)
    lacking = _balanced(_apart(lacking), division, max_imbalance)
    if per_class and most <= available:
        return [f"raise data.per_class from {per_class} to {max(most, per_class + 1)}"]
    added = " and ".join(f"{count} pictures of {' + '.join(labels)}" for labels, count in lacking.items())
    limit = f", and raise data.per_class from {per_class} to {most}" if 0 < per_class < most else ""
    return [f"add about {added}{limit}"]


def _apart(lacking: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    """Return ``lacking`` without the pictures of several classes that those of single classes already bring."""
    added: dict[tuple[str, ...], int] = {}
    for labels in sorted(lacking, key=len):
        brought = sum(count for others, count in added.items() if set(others) <= set(labels))
        if lacking[labels] > brought:
            added[labels] = lacking[labels] - brought
    return added


def _balanced(
    lacking: Mapping[tuple[str, ...], int], division: Division, max_imbalance: float
) -> dict[tuple[str, ...], int]:
    """Return ``lacking`` with the pictures of other classes that must then be added, too."""
    sizes = {label: int((division.frame["label"] == label).sum()) for label in division.labels}
    after = {label: size + lacking.get((label,), 0) for label, size in sizes.items()}
    least = math.ceil(max(after.values()) / max_imbalance)
    return {**lacking, **{(label,): least - sizes[label] for label, size in after.items() if size < least}}


def _wider_margin(demands: Demands, labels: Sequence[str], counts: Counts) -> list[str]:
    """Return the smallest margin of error at which the pictures suffice to judge the floors."""
    now = demands.policy.max_margin_of_error
    for margin in (percent / 100 for percent in range(math.floor(now * 100) + 1, _LARGEST_MARGIN + 1)):
        weaker = replace(demands, policy=replace(demands.policy, max_margin_of_error=margin))
        if not unmet(weaker.needs(labels), counts):
            return [f"raise gate.max_margin_of_error from {now:g} to {margin:g}: the floors become less certain"]
    return []


def _lower_sensitivity(demands: Demands, labels: Sequence[str], counts: Counts) -> list[str]:
    """Return the largest sensitivity for which the calibration pictures suffice."""
    now = demands.min_sensitivity
    for least in (percent / 100 for percent in range(math.ceil(now * 100) - 1, _LOWEST_SENSITIVITY - 1, -1)):
        weaker = replace(demands, min_sensitivity=least)
        if not unmet(weaker.needs(labels), counts):
            return [f"lower calibrate.min_sensitivity from {now:g} to {least:g}: more dangerous pictures may pass"]
    return []
