"""The evidence a gate decides on, taken from the reports of one evaluation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from buckler.errors import DataError
from buckler.evaluation import reports
from buckler.evaluation.reports import (
    OUTCOMES_FILE,
    DecisionsReport,
    DetectorReport,
    EvaluationReport,
    RobustnessReport,
    RuntimeReport,
    ValidationReport,
)
from buckler.measurements.results import Rate, Subgroup, WorstCase
from buckler.measurements.stated import (
    Measured,
    MeasuredDecisions,
    MeasuredDetector,
    MeasuredFinding,
    MeasuredRuntime,
)
from buckler.radius import StatedRadius
from buckler.state import documents
from buckler.state.locations import Location

Outcomes = Mapping[str, Mapping[str, bool]]  # picture id -> column (clean, worst_1/255, …) -> right

CLEAN = "clean"
_WITHOUT_UNIT = re.compile(r"(?<=_)[0-9]+$")


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports that a verdict rests on.

    Attributes:
        decisions: None in releases from before decisions were measured.
        runtime: None in releases from before networks were exported.
        outcomes: Per test picture, for the paired comparison with another model.
    """

    validation: ValidationReport
    evaluation: EvaluationReport
    robustness: RobustnessReport
    detector: DetectorReport
    decisions: DecisionsReport | None
    runtime: RuntimeReport | None
    outcomes: Outcomes

    @property
    def files(self) -> tuple[str, ...]:
        """Return the names of the files."""
        every = (self.validation, self.runtime, self.evaluation, self.robustness, self.detector, self.decisions)
        return (*(report.FILE for report in every if report), OUTCOMES_FILE)

    @property
    def calibration_error(self) -> float:
        """Return the calibration error of the served probabilities."""
        return self.decisions.calibration_error if self.decisions else self.evaluation.calibration_error

    @property
    def measured(self) -> Measured:
        """The measurements that the verdict states."""
        evaluation, robustness, decisions = self.evaluation, self.robustness, self.decisions
        return Measured(
            data=robustness.data,
            labels=evaluation.labels,
            clean_accuracy=evaluation.clean_accuracy,
            balanced_accuracy=evaluation.balanced_accuracy,
            malignant_recall=evaluation.malignant_recall,
            roc_auc=evaluation.roc_auc,
            roc_auc_interval=evaluation.roc_auc_interval,
            calibration_error=self.calibration_error,
            reliability=decisions.reliability if decisions else (),
            decisions=MeasuredDecisions.model_validate(decisions, from_attributes=True) if decisions else None,
            heat_map=evaluation.heat_map,
            attacks=robustness.cells,
            worst_case=robustness.worst_case,
            subgroups=robustness.subgroups,
            findings={
                name: MeasuredFinding(clean=row, worst_case=robustness.findings[name])
                for name, row in evaluation.findings.items()
            },
            checks=robustness.checks,
            detector=MeasuredDetector.model_validate(self.detector, from_attributes=True),
            runtime=MeasuredRuntime.model_validate(self.runtime, from_attributes=True) if self.runtime else None,
        )


def read_reports(directory: Location) -> Reports:
    """Return the reports in ``directory``: a project's ``reports/`` or a release's ``evidence/``.

    Raises:
        DataError: One is missing or malformed.
    """
    decided, exported = ((directory / kind.FILE).exists() for kind in (DecisionsReport, RuntimeReport))
    return Reports(
        reports.read(ValidationReport, directory),
        reports.read(EvaluationReport, directory),
        reports.read(RobustnessReport, directory),
        reports.read(DetectorReport, directory),
        reports.read(DecisionsReport, directory) if decided else None,
        reports.read(RuntimeReport, directory) if exported else None,
        read_outcomes(directory / OUTCOMES_FILE),
    )


def read_evidence(directory: Location) -> "Evidence":
    """Return the evidence in the reports in ``directory``; errors as for `read_reports`."""
    return Evidence.of(read_reports(directory))


def read_outcomes(path: Location) -> Outcomes:
    """Return picture id -> column -> whether right, from a table ``id,label,clean,worst_1/255,…`` of 0 and 1.

    Columns of earlier versions, ``worst_1``, are in 1/255 without saying so.

    Raises:
        DataError: There is no such table, an id occurs twice, or a cell is neither 0 nor 1.
    """
    outcomes = {}
    for row in documents.read_csv(path):
        name, cells = row.get("id"), {k: v for k, v in row.items() if k not in ("id", "label")}
        if not name or name in outcomes or not cells or not set(cells.values()) <= {"0", "1"}:
            raise DataError(f"{path}: expected unique ids and cells of 0 or 1, got the row {row}")
        outcomes[name] = {_stated(column): cell == "1" for column, cell in cells.items()}
    return outcomes


def _stated(column: str) -> str:
    return _WITHOUT_UNIT.sub(lambda found: StatedRadius(found[0]), column)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements of one model; ``None`` and absent radii mean "not measured".

    Attributes:
        worst_case: Radius -> rates under the worst case of all attacks and radii up to it.
        subgroups: The same rates for subgroups of the pictures.
        failed_checks: Failed sanity checks: the robustness numbers cannot be trusted.
        findings: Of a model that looks for several in one picture.
        dangerous: Those of ``labels`` that must not be missed.
        runtime_failures: Why the serving runtime may not replace the reference.
        runtime_notes: Faster runtimes that were rejected, and why.
        outcomes: Per test picture, for the paired comparison.
    """

    pictures: int
    labels: tuple[str, ...]
    clean_accuracy: Rate | None = None
    worst_case: Mapping[StatedRadius, WorstCase] | None = None
    subgroups: Sequence[Subgroup] | None = None
    malignant_recall: Rate | None = None
    calibration_error: float | None = None
    decisions: DecisionsReport | None = None
    detector: DetectorReport | None = None
    validation: ValidationReport | None = None
    failed_checks: tuple[str, ...] = ()
    runtime_failures: tuple[str, ...] = ()
    runtime_notes: tuple[str, ...] = ()
    outcomes: Outcomes | None = None
    findings: Mapping[str, MeasuredFinding] = field(default_factory=dict)
    dangerous: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Reports) -> "Evidence":
        """Return the evidence in the reports of one evaluation."""
        evaluation, robustness = found.evaluation, found.robustness
        failures, notes = _judge_runtime(found)
        return cls(
            pictures=evaluation.data.images,
            labels=evaluation.labels,
            clean_accuracy=evaluation.clean_accuracy,
            worst_case={entry.radius: entry for entry in robustness.worst_case},
            subgroups=robustness.subgroups,
            malignant_recall=evaluation.malignant_recall,
            calibration_error=found.calibration_error,
            decisions=found.decisions,
            detector=found.detector,
            validation=found.validation,
            failed_checks=tuple(f"{check.name}: {check.detail}" for check in robustness.checks if not check.passed),
            runtime_failures=failures,
            runtime_notes=notes,
            outcomes=found.outcomes,
            findings=found.measured.findings,
            dangerous=robustness.malignant,
        )


def _judge_runtime(found: Reports) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return why the serving runtime is rejected, and notes on rejected faster ones; Keras is the reference itself."""
    report = found.runtime
    if report is None or not report.precisions:
        return (), ()
    failures = {name: parity.failures(report.policy) for name, parity in report.precisions.items()}
    serves = report.serves
    scored = {cell.scored_in for cell in found.robustness.cells} | {found.evaluation.scored_in}
    others = sorted(scored - {serves})
    failed = [f"runtime {serves}: {failure}" for failure in failures[serves]]
    failed += [f"runtime {serves} serves, but answers of {others} were scored"] if others else []
    rejected = {name: "; ".join(why) for name, why in failures.items() if why and name != serves}
    return tuple(failed), tuple(
        f"{name} is not used, which costs only speed: it differs too much from the reference ({why})"
        for name, why in rejected.items()
    )
