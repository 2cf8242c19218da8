"""How many pictures each split needs, so that the floors of the gate can be judged and the input checks calibrated.

Counted before anything is trained: with fewer the stage `calibrate` cannot set its limits, and the gate fails whatever
the model is worth.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from buckler.data import pictures
from buckler.detection.danger import dangerous_needed
from buckler.detection.threshold import records_needed
from buckler.evaluation.statistics import smallest_sample
from buckler.release.policy import Floors, Policy

# all: usable pictures of the data source; attacked: the test pictures that the stage `attack` draws
Part = Literal["all", "train", "calibration", "test", "attacked"]
Counts = Mapping[Part, Mapping[str, int]]  # part -> label -> pictures

_NAMES: Mapping[Part, str] = {"all": "usable", "attacked": "attacked test"}


@dataclass(frozen=True, slots=True)
class Need:
    """A least number of pictures.

    Attributes:
        part: Where they are counted.
        labels: Classes whose pictures count, together.
        count: Least number.
        reason: The settings that need it, with their values.
    """

    part: Part
    labels: tuple[str, ...]
    count: int
    reason: str

    def seen(self, counts: Counts) -> int:
        """Return how many pictures of ``counts`` this need counts."""
        return sum(counts[self.part].get(label, 0) for label in self.labels)

    def met(self, counts: Counts) -> bool:
        """Return whether ``counts`` has enough pictures."""
        return self.seen(counts) >= self.count

    @property
    def what(self) -> str:
        """Return in words which pictures are counted, and why."""
        return f"{_NAMES.get(self.part, self.part)} pictures of {' + '.join(self.labels)} for {self.reason}"

    def __str__(self) -> str:
        return f"at least {self.count} {self.what}"


@dataclass(frozen=True, slots=True)
class Demands:
    """The settings that need pictures.

    Attributes:
        policy: Section ``gate`` of params.yaml.
        dangerous: Returns those of some labels that must not be missed.
        max_fpr, confidence, min_sensitivity: Of section ``calibrate``.
        attacked, attack_seed: ``attack.records`` (0: all test pictures are attacked) and ``attack.seed``.
        max_imbalance: Of section ``validate``: size of the largest class divided by that of the smallest.
    """

    policy: Policy
    dangerous: Callable[[Sequence[str]], tuple[str, ...]]
    max_fpr: float
    confidence: float
    min_sensitivity: float
    attacked: int
    attack_seed: int
    max_imbalance: float = math.inf

    def needs(self, labels: Sequence[str]) -> list[Need]:
        """Return what these settings need for the classes ``labels``."""
        dangerous = self.dangerous(labels)
        return [*self._of_classes(labels), *self._of_calibration(labels, dangerous), *self._of_gate(labels, dangerous)]

    def counts(self, frame: pd.DataFrame, assigned: NDArray[np.str_]) -> Counts:
        """Return how many pictures of each class the parts have.

        Args:
            frame: A manifest.
            assigned: Result of `buckler.data.splits.assign`.
        """
        test = frame[assigned == "test"].sort_values("id")["label"]
        parts: dict[Part, pd.Series[str]] = {
            "all": frame["label"],
            "train": frame.loc[assigned == "train", "label"],
            "calibration": frame.loc[assigned == "calibration", "label"],
            "test": test,
            "attacked": test.iloc[pictures.drawn_rows(len(test), self.attacked, self.attack_seed)],
        }
        return {
            part: {str(label): int(count) for label, count in found.value_counts().items()}
            for part, found in parts.items()
        }

    def _of_classes(self, labels: Sequence[str]) -> Iterator[Need]:
        least = self.policy.min_class_records
        for label in labels:
            yield Need("all", (label,), least, f"gate.min_class_records {least}")

    def _of_calibration(self, labels: Sequence[str], dangerous: tuple[str, ...]) -> Iterator[Need]:
        sure = f"with calibrate.confidence {self.confidence:g}"
        count = records_needed(self.max_fpr, self.confidence)
        yield Need("calibration", tuple(labels), count, f"calibrate.max_fpr {self.max_fpr:g} {sure}")
        if dangerous:
            count = dangerous_needed(self.min_sensitivity, self.confidence)
            yield Need("calibration", dangerous, count, f"calibrate.min_sensitivity {self.min_sensitivity:g} {sure}")

    def _of_gate(self, labels: Sequence[str], dangerous: tuple[str, ...]) -> Iterator[Need]:
        every, harmless = tuple(labels), tuple(label for label in labels if label not in dangerous)
        yield from self._floor("test", every, "min_clean_accuracy", self.policy.min_clean_accuracy)
        yield from self._floors(every, "min_robust_accuracy")
        if dangerous:  # the gate judges the other rates only of data with dangerous labels
            yield from self._floor("test", dangerous, "min_malignant_recall", self.policy.min_malignant_recall)
            yield from self._accepted_misses(dangerous)
            yield from self._floors(dangerous, "min_robust_sensitivity")
            yield from self._floors(harmless, "min_robust_specificity")

    def _accepted_misses(self, dangerous: tuple[str, ...]) -> Iterator[Need]:
        ceiling, margin = self.policy.max_accepted_misses, self.policy.max_margin_of_error
        if ceiling < 1:  # as the gate judges it
            reason = f"gate.max_accepted_misses {ceiling:g} with gate.max_margin_of_error {margin:g}"
            yield Need("test", dangerous, smallest_sample(ceiling, margin), reason)

    def _floors(self, labels: tuple[str, ...], name: str) -> Iterator[Need]:
        floors: Floors = getattr(self.policy, name)
        part: Part = "attacked" if self.attacked else "test"
        for radius, floor in sorted(floors.items()):
            yield from self._floor(part, labels, name, floor, f"{{{radius}: {floor:g}}}")

    def _floor(self, part: Part, labels: tuple[str, ...], name: str, floor: float, value: str = "") -> Iterator[Need]:
        """Yield the need of a floor, with its ``value`` in params.yaml; a floor of zero requires nothing."""
        if floor and labels:
            margin = self.policy.max_margin_of_error
            reason = f"gate.{name} {value or format(floor, 'g')} with gate.max_margin_of_error {margin:g}"
            yield Need(part, labels, smallest_sample(floor, margin), reason)


def unmet(needs: Iterable[Need], counts: Counts) -> list[Need]:
    """Return the needs that ``counts`` does not meet, the largest for each part and its classes."""
    largest: dict[tuple[Part, tuple[str, ...]], Need] = {}
    for need in needs:
        key = need.part, need.labels
        if not need.met(counts) and (key not in largest or need.count > largest[key].count):
            largest[key] = need
    return list(largest.values())


def sentences(needs: Iterable[Need], counts: Counts) -> list[str]:
    """Return one sentence for each of the unmet ``needs``."""
    return [f"expected {need}, got {need.seen(counts)}" for need in needs]
