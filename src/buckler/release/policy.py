"""The policy of the gate: the floors and ceilings that a release must meet."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from buckler.params import Between, Count, Share
from buckler.radius import StatedRadius
from buckler.trust.approval import Signatures

# Kinds of floors that a later measurement may refute, in the order of the rules.
REFUTABLE_KINDS = (
    "clean_accuracy",
    "robust_accuracy",
    "malignant_recall",
    "sensitivity",
    "specificity",
    "subgroup",
)

# Values of keys that verdicts of earlier versions lack: what these versions did not judge.
EARLIER: Mapping[str, Any] = {
    "max_accepted_misses": 1.0,
    "allowed_warnings": ("mostly_colour", "no_repeated_files"),
    "max_quarantined": 1.0,
    "min_class_records": 1,
    "signatures": {"required": 0, "keys": {}},
}

_MOST_DAYS = 3650
Floors = Mapping[StatedRadius, Share]  # radius -> least share under the worst case up to that radius


@dataclass(frozen=True, slots=True)
class Policy:
    """Section ``gate`` of params.yaml: the floors and ceilings for a model.

    Three rules keep chance from deciding:

    - **Few pictures.** A floor above zero needs enough pictures for the 95 % interval of a rate at that floor to be at
      most plus or minus ``max_margin_of_error``. With fewer the gate fails and states the number needed. The
      measured share itself, not its interval, is compared with the floor.
    - **Several comparisons.** The challenger is compared with the champion on clean pictures and at every radius.
      The p-values are adjusted by Holm's method, so that an equal model is rejected with a
      probability of at most ``regression_alpha`` over all comparisons.
    - **Many subgroups.** Among many small groups some fall below any floor by chance. A subgroup's floor is
      therefore broken only where the share is significantly below it: exact binomial test, adjusted by Holm's
      method over all subgroup floors, level 5 %. Groups of fewer than ``min_subgroup_records`` are reported,
      not judged, and the decision notes them.

    Attributes:
        min_clean_accuracy: Share right without attack.
        min_robust_accuracy: Radius -> share right under the worst case up to that radius.
        min_malignant_recall: Share of malignant pictures given a malignant label; ignored for data without any.
        min_robust_sensitivity: Radius -> the same share, both clean and under every attack up to that radius.
        min_robust_specificity: Radius -> share of benign pictures given a benign label, under the same conditions.
        min_subgroup_clean_accuracy: Share right without attack in each subgroup.
        min_subgroup_robust_accuracy: Radius -> share right under the worst case in each subgroup.
        min_subgroup_records: Size of the smallest subgroup that has floors.
        max_margin_of_error: Largest half width of a 95 % interval at a floor.
        max_calibration_error: Expected calibration error.
        max_accepted_misses: Share of dangerous test pictures with a harmless label and the decision ``accept``; ignored
            for data without any.
        max_detector_fpr: Share of clean test pictures that the detector flags, and of those after benign changes.
        max_detector_subgroup_fpr: The same for the clean pictures of a class or subgroup.
        min_detector_auc: Radius -> area under the ROC curve of the attack that the detector separates worst.
        max_evaded: Radius -> share misclassified and not flagged under attacks that know the detector.
        allowed_warnings: Expectations of the stage ``validate`` that may be violated: warnings, by name.
        max_quarantined: Share of the files that do not decode, whatever warnings are allowed.
        min_class_records: Usable records of the smallest class, whatever warnings are allowed.
        regression_alpha: Level at which the challenger must not be significantly worse than the champion.
        valid_days: Days until a verdict expires.
        signatures: How many people must approve a promotion, and who may; the signed verdict demands it of services.
    """

    min_clean_accuracy: Share
    min_robust_accuracy: Floors
    min_malignant_recall: Share
    min_robust_sensitivity: Floors
    min_robust_specificity: Floors
    min_subgroup_clean_accuracy: Share
    min_subgroup_robust_accuracy: Floors
    min_subgroup_records: Count
    max_margin_of_error: Share
    max_calibration_error: Share
    max_accepted_misses: Share
    max_detector_fpr: Share
    max_detector_subgroup_fpr: Share
    min_detector_auc: Floors
    max_evaded: Floors
    allowed_warnings: tuple[str, ...]
    max_quarantined: Share
    min_class_records: Count
    regression_alpha: Between
    valid_days: Annotated[Count, Field(le=_MOST_DAYS)]
    signatures: Signatures

    def __post_init__(self) -> None:
        """Read the texts of radii, and reject invalid values: shares outside 0..1, and days, radii or sizes below 1."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del values["allowed_warnings"], values["signatures"]
        by_radius = {name: _by_radius(floors) for name, floors in values.items() if isinstance(floors, Mapping)}
        for name, floors in by_radius.items():
            object.__setattr__(self, name, floors)
        shares = {f"{name}.{radius}": floor for name, floors in by_radius.items() for radius, floor in floors.items()}
        counts = {"valid_days", "min_subgroup_records", "min_class_records"}
        shares |= {name: value for name, value in values.items() if name not in counts | by_radius.keys()}
        outside = {name: share for name, share in shares.items() if not 0 <= share <= 1}
        if outside:
            raise ValueError(f"expected shares in 0..1, got {outside}")
        if not 0 < self.max_margin_of_error < 0.5:
            raise ValueError(f"expected max_margin_of_error above 0 and below 0.5, got {self.max_margin_of_error}")
        if not 0 < self.regression_alpha < 1:
            raise ValueError(f"expected regression_alpha above 0 and below 1, got {self.regression_alpha}")
        if self.valid_days > _MOST_DAYS:
            raise ValueError(f"expected valid_days of at most {_MOST_DAYS}, got {self.valid_days}")
        radii = [radius.number for floors in by_radius.values() for radius in floors]
        if min(values[name] for name in counts) < 1:
            raise ValueError(f"expected {', '.join(sorted(counts))} of at least 1")
        if min(radii, default=1) <= 0:
            raise ValueError("expected radii above 0")


def _by_radius(floors: Mapping[Any, float]) -> dict[StatedRadius, float]:
    return {StatedRadius(radius): floor for radius, floor in floors.items()}
