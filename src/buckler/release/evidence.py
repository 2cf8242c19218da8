"""The evidence a gate decides on, read from the reports of one evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from buckler.errors import DataError
from buckler.evaluation.parity import Parity
from buckler.evaluation.statistics import (
    Rate,
)
from buckler.evaluation.subgroups import Subgroup, WorstCase
from buckler.release.detector_floors import DetectorEvidence
from buckler.release.policy import ParityPolicy

Reports = Mapping[str, Mapping[str, Any]]  # report name without suffix -> its JSON
Outcomes = Mapping[str, Mapping[str, bool]]  # picture id -> column (clean, worst_1, …) -> right

CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured of one model; ``None`` and absent radii mean "not measured".

    Attributes:
        worst_case: Radius in 1/255 -> what held under all attacks and radii up to it.
        subgroups: The same of parts of the pictures.
        failed_checks: Sanity checks that say the robustness numbers are not to be believed.
        runtime_failures: Why the runtime that serves may not stand in for the reference.
        runtime_notes: Which faster ones were passed over, and why.
        outcomes: Per test picture, for the paired comparison.
    """

    pictures: int
    labels: tuple[str, ...]
    clean_accuracy: Rate | None = None
    worst_case: Mapping[int, WorstCase] | None = None
    subgroups: Sequence[Subgroup] | None = None
    malignant_recall: Rate | None = None
    calibration_error: float | None = None
    detector: DetectorEvidence | None = None
    failed_checks: tuple[str, ...] = ()
    runtime_failures: tuple[str, ...] = ()
    runtime_notes: tuple[str, ...] = ()
    outcomes: Outcomes | None = None

    @classmethod
    def from_reports(cls, reports: Reports, outcomes: Outcomes | None = None) -> "Evidence":
        """Return what the reports ``evaluation``, ``robustness``, ``detector`` and, if there is one, ``runtime`` say.

        Raises:
            DataError: A report is missing or lacks what the gate needs.
        """
        try:
            evaluation, robustness = reports["evaluation"], reports["robustness"]
            checks = TypeAdapter(list[_Check]).validate_python(robustness["checks"])
            worst = TypeAdapter(list[WorstCase]).validate_python(robustness["worst_case"])
            runtime_failures, runtime_notes = _of_the_runtime(reports)
            rate, optional = TypeAdapter(Rate), TypeAdapter(Rate | None)
            return cls(
                pictures=int(evaluation["data"]["images"]),
                labels=tuple(evaluation["labels"]),
                clean_accuracy=rate.validate_python(evaluation["clean_accuracy"]),
                worst_case={entry.epsilon_255: entry for entry in worst},
                subgroups=TypeAdapter(tuple[Subgroup, ...]).validate_python(robustness["subgroups"]),
                malignant_recall=optional.validate_python(evaluation["malignant_recall"]),
                calibration_error=float(evaluation["calibration_error"]),
                detector=DetectorEvidence.from_report(reports["detector"]),
                failed_checks=tuple(f"{c.name}: {c.detail}" for c in checks if not c.passed),
                runtime_failures=runtime_failures,
                runtime_notes=runtime_notes,
                outcomes=outcomes,
            )
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise DataError(f"a report lacks what the gate needs ({error!r}); run `dvc repro`") from error


def parity_failures(parity: Parity, policy: ParityPolicy) -> tuple[str, ...]:
    """Return why a runtime may not stand in for the reference; nothing means that it may."""
    failures = []
    if not parity.label_agreement >= policy.min_label_agreement:  # in this form NaN fails
        failures.append(f"label agreement {parity.label_agreement:.4f} < {policy.min_label_agreement:g}")
    for name in ("probability_gap", "robust_accuracy_gap", "detector_auc_gap"):
        gap, ceiling = getattr(parity, name), getattr(policy, f"max_{name}")
        if not gap <= ceiling:
            failures.append(f"{name.replace('_', ' ')} {gap:.4f} > {ceiling:g}")
    return tuple(failures)


def _of_the_runtime(reports: Reports) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return why the runtime that serves may not, and which faster ones do not; a network in Keras is its reference."""
    report = reports.get("runtime")
    if report is None or not report["precisions"]:
        return (), ()
    policy = TypeAdapter(ParityPolicy).validate_python(report["policy"])
    measured = TypeAdapter(dict[str, Parity]).validate_python(report["precisions"])
    failures = {name: parity_failures(parity, policy) for name, parity in measured.items()}
    serves = report["serves"]
    scored = {cell["scored_in"] for cell in reports["robustness"]["cells"]}
    others = sorted((scored | {reports["evaluation"]["model"]["scored_in"]}) - {serves})
    refused = [f"runtime {serves}: {failure}" for failure in failures[serves]]
    refused += [f"runtime {serves} serves, but answers of {others} were counted"] if others else []
    passed_over = [f"runtime {name} does not serve: {'; '.join(why)}" for name, why in failures.items() if why]
    return tuple(refused), tuple(note for note in passed_over if not note.startswith(f"runtime {serves} "))
