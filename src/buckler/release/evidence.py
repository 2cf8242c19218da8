"""The evidence a gate decides on, read from the reports of one evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from buckler.errors import DataError
from buckler.evaluation.parity import Parity
from buckler.evaluation.statistics import Rate
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
    """Measurements of one model; ``None`` and absent radii mean "not measured".

    Attributes:
        worst_case: Radius in 1/255 -> rates under the worst case of all attacks and radii up to it.
        subgroups: The same rates for subgroups of the pictures.
        failed_checks: Failed sanity checks: the robustness numbers cannot be trusted.
        runtime_failures: Why the serving runtime may not replace the reference.
        runtime_notes: Faster runtimes that were rejected, and why.
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
        """Return the evidence in the reports ``evaluation``, ``robustness``, ``detector`` and, if present, ``runtime``.

        Raises:
            DataError: A report is missing or lacks what the gate needs.
        """
        try:
            evaluation, robustness = reports["evaluation"], reports["robustness"]
            checks = TypeAdapter(list[_Check]).validate_python(robustness["checks"])
            worst = TypeAdapter(list[WorstCase]).validate_python(robustness["worst_case"])
            runtime_failures, runtime_notes = _judge_runtime(reports)
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
    """Return why a runtime may not replace the reference; empty if it may."""
    failures = []
    if not parity.label_agreement >= policy.min_label_agreement:  # in this form NaN fails
        failures.append(f"label agreement {parity.label_agreement:.4f} < {policy.min_label_agreement:g}")
    for name in ("probability_gap", "robust_accuracy_gap", "detector_auc_gap"):
        gap, ceiling = getattr(parity, name), getattr(policy, f"max_{name}")
        if not gap <= ceiling:
            failures.append(f"{name.replace('_', ' ')} {gap:.4f} > {ceiling:g}")
    return tuple(failures)


def _judge_runtime(reports: Reports) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return why the serving runtime is rejected, and notes on rejected faster ones; Keras is the reference itself."""
    report = reports.get("runtime")
    if report is None or not report["precisions"]:
        return (), ()
    policy = TypeAdapter(ParityPolicy).validate_python(report["policy"])
    measured = TypeAdapter(dict[str, Parity]).validate_python(report["precisions"])
    failures = {name: parity_failures(parity, policy) for name, parity in measured.items()}
    serves = report["serves"]
    scored = {cell["scored_in"] for cell in reports["robustness"]["cells"]}
    others = sorted((scored | {reports["evaluation"]["model"]["scored_in"]}) - {serves})
    failed = [f"runtime {serves}: {failure}" for failure in failures[serves]]
    failed += [f"runtime {serves} serves, but answers of {others} were scored"] if others else []
    rejected = [f"runtime {name} does not serve: {'; '.join(why)}" for name, why in failures.items() if why]
    return tuple(failed), tuple(note for note in rejected if not note.startswith(f"runtime {serves} "))
