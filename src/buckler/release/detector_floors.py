"""The gate's rules for the detector: false-positive rates, also per subgroup, and detection of attacks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from buckler.evaluation.statistics import Rate
from buckler.release.policy import Policy


@dataclass(frozen=True, slots=True)
class DetectorEvidence:
    """Measurements of a detector.

    Attributes:
        clean_fpr: Share of clean test pictures that are flagged as attacked.
        harmless: Change -> share of pictures flagged after this benign change.
        subgroups: ``(column, group)`` -> share of the group's clean pictures flagged.
        auc: Radius in 1/255 -> area under the ROC curve of the attack that the detector separates worst.
        evaded: Radius -> share misclassified and not flagged under the best attack that knows the detector.
    """

    clean_fpr: Rate
    harmless: Mapping[str, Rate]
    subgroups: Mapping[tuple[str, str], Rate]
    auc: Mapping[int, float]
    evaded: Mapping[int, Rate]

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> "DetectorEvidence":
        """Return the measurements in ``reports/detector.json``.

        Raises:
            KeyError, ValueError: A field is missing or has an unexpected value.
        """
        rate = TypeAdapter(Rate).validate_python
        worst = {int(row["epsilon_255"]): row for row in report["worst"]}
        evaded = {radius: row["adaptive_wrong_and_unflagged"] for radius, row in worst.items()}
        return cls(
            clean_fpr=rate(report["clean_fpr"]),
            harmless={str(row["change"]): rate(row["flagged"]) for row in report["harmless"]},
            subgroups={(r["column"], r["group"]): rate(r["clean_fpr"]) for r in report["subgroups"]},
            auc={radius: float(row["auc"]["value"]) for radius, row in worst.items() if row["auc"]},
            evaded={radius: rate(value) for radius, value in evaded.items() if value is not None},
        )


def failures(found: DetectorEvidence | None, policy: Policy) -> Iterator[str]:
    """Yield one sentence per broken rule; NaN breaks every rule."""
    if found is None:
        yield f"the detector was not measured, expected a false-positive rate of at most {policy.max_detector_fpr:g}"
        return
    ceiling = policy.max_detector_fpr
    if not found.clean_fpr.value <= ceiling:
        yield f"detector's false-positive rate {found.clean_fpr.value:.3f} > {ceiling:.3f}"
    for change, rate in found.harmless.items():
        if not rate.value <= ceiling:
            yield f"detector flags {rate.value:.3f} of pictures after the benign change '{change}', > {ceiling:.3f}"
    for (column, group), rate in found.subgroups.items():
        if rate.pictures >= policy.min_subgroup_records and not rate.value <= policy.max_detector_subgroup_fpr:
            allowed = policy.max_detector_subgroup_fpr
            yield f"detector's false-positive rate of {column} '{group}' {rate.value:.3f} > {allowed:.3f}"
    for radius, floor in sorted(policy.min_detector_auc.items()):
        yield from _floor(radius, found.auc.get(radius), floor)
    for radius, allowed in sorted(policy.max_evaded.items()):
        yield from _evaded(radius, found.evaded.get(radius), allowed)


def _floor(radius: int, auc: float | None, floor: float) -> Iterator[str]:
    if auc is None:
        yield f"detector's AUC at {radius}/255 was not measured, expected at least {floor:.3f}"
    elif not auc >= floor:
        yield f"detector's AUC under the attack that it separates worst at {radius}/255 {auc:.3f} < {floor:.3f}"


def _evaded(radius: int, rate: Rate | None, allowed: float) -> Iterator[str]:
    if rate is None:
        yield f"evasion of network and detector at {radius}/255 was not measured, expected at most {allowed:.3f}"
    elif not rate.value <= allowed:
        interval = f"{rate.low:.3f} to {rate.high:.3f}"
        yield (
            f"wrong and unflagged under an attacker who knows the detector at {radius}/255 "
            f"{rate.value:.3f} > {allowed:.3f} (95 % interval {interval})"
        )
