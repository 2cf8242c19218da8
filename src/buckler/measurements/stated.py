"""The measurements that a verdict states: the evaluation's reports in short.

The verdict's predicate contains them as `Measured`, so that the verdict alone says what was measured. The model card,
the console and the commands read them from there.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from buckler.errors import VerdictError, faults_of
from buckler.measurements.decisions import ConfidenceBin, DangerLimit, Decisions
from buckler.measurements.detection import DetectedAttack
from buckler.measurements.earlier import with_stated_radii
from buckler.measurements.results import (
    AttackedData,
    Cell,
    CheckResult,
    DataVersion,
    FindingRow,
    FindingWorstCase,
    HeatMapCheck,
    Interval,
    Parity,
    Rate,
    Subgroup,
    WorstCase,
)

_CONFIG = ConfigDict(frozen=True, extra="ignore")


class MeasuredDetector(BaseModel):
    """The adversarial-input detector; as in the detector's report."""

    model_config = _CONFIG

    threshold: float
    max_fpr: float
    clean_fpr: Rate
    attacks: tuple[DetectedAttack, ...]


class MeasuredFinding(BaseModel):
    """One finding of a model that looks for several in one picture: on clean pictures, and under attack by radius."""

    model_config = _CONFIG

    clean: FindingRow
    worst_case: tuple[FindingWorstCase, ...]


class MeasuredDecisions(BaseModel):
    """The decisions on clean test pictures; as in their report.

    Attributes:
        temperature: Divides the logits before they become probabilities.
        uncalibrated_error: Calibration error at a temperature of one.
        danger: None if no label is dangerous.
        with_limit: As served.
        without_limit: The same if the limit of ``danger`` did not exist.
    """

    model_config = _CONFIG

    temperature: float
    uncalibrated_error: float
    danger: DangerLimit | None
    with_limit: Decisions
    without_limit: Decisions


class MeasuredRuntime(BaseModel):
    """The precision that serves, and how far each precision differs from the reference."""

    model_config = _CONFIG

    serves: str
    precisions: dict[str, Parity]


class Measured(BaseModel):
    """Measurements of one model; None and empty lists mean "not measured".

    Attributes:
        data: The splits' digest and the attacked pictures.
        balanced_accuracy, roc_auc, roc_auc_interval: As in `measurements.results.CleanEvaluation`.
        calibration_error, reliability: Of the probabilities that the model serves.
        heat_map: None also where the pictures have no masks of their lesions.
        attacks: Every attack of the suite at every radius.
    """

    model_config = _CONFIG

    data: AttackedData | DataVersion | None = None
    labels: tuple[str, ...] = ()
    clean_accuracy: Rate | None = None
    balanced_accuracy: Rate | None = None
    malignant_recall: Rate | None = None
    roc_auc: float | None = None
    roc_auc_interval: Interval | None = None
    calibration_error: float | None = None
    reliability: tuple[ConfidenceBin, ...] = ()
    decisions: MeasuredDecisions | None = None
    heat_map: HeatMapCheck | None = None
    attacks: tuple[Cell, ...] = ()
    worst_case: tuple[WorstCase, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()
    findings: dict[str, MeasuredFinding] = {}
    checks: tuple[CheckResult, ...] = ()
    detector: MeasuredDetector | None = None
    runtime: MeasuredRuntime | None = None

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> "Measured":
        """Return the measurements in the JSON object ``stated``, which a verdict contains.

        Raises:
            VerdictError: ``malformed``.
        """
        try:
            return cls.model_validate(with_stated_radii(stated))
        except ValidationError as error:
            raise VerdictError("malformed", f"the verdict's measurements are malformed: {faults_of(error)}") from error

    def document(self) -> dict[str, Any]:
        """Return the measurements as a JSON object."""
        return self.model_dump(mode="json")

    def headline(self) -> dict[str, float]:
        """Return the numbers by which models are compared, flat, for `dvc metrics diff` and `dvc exp show`.

        ``worst_case_2`` is the robust accuracy under all attacks and radii up to 2/255, ``fgsm_2`` that under FGSM
        alone, ``sensitivity_2`` and ``specificity_2`` are the clinical rates under all attacks and radii up to 2/255.
        """
        detector = self.detector.clean_fpr if self.detector else None
        decisions = self.decisions.with_limit if self.decisions else None
        rates = {
            "clean_accuracy": self.clean_accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "malignant_recall": self.malignant_recall,
            "heat_map_pointed": self.heat_map.pointed if self.heat_map else None,
            **{f"worst_case_{row.radius.number:g}": row.robust_accuracy for row in self.worst_case},
            **{f"sensitivity_{row.radius.number:g}": row.sensitivity for row in self.worst_case},
            **{f"specificity_{row.radius.number:g}": row.specificity for row in self.worst_case},
            **{f"{cell.name}_{cell.radius.number:g}": cell.robust_accuracy for cell in self.attacks},
            "detector_clean_fpr": detector,
            "accepted_misses": decisions.accepted_misses if decisions else None,
            "reviews": decisions.reviews if decisions else None,
        }
        numbers = {name: rate.value for name, rate in rates.items() if rate}
        numbers |= {"roc_auc": self.roc_auc, "calibration_error": self.calibration_error}  # type: ignore[dict-item]
        return {name: round(float(value), 4) for name, value in numbers.items() if value is not None}
