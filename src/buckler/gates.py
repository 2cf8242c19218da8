"""The rule for promotion: numbers in, reasons out. Pure: no file, clock or server is touched here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from buckler.errors import DataError
from buckler.evaluation.statistics import Rate, mcnemar_p, two_proportions_p

Reports = Mapping[str, Mapping[str, Any]]  # report name without suffix -> its JSON
Outcomes = Mapping[str, Mapping[str, bool]]  # picture id -> column (clean, worst_1, …) -> right

CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Policy:
    """Section ``gate`` of params.yaml: what a model must reach.

    Attributes:
        min_clean_accuracy: Share right without attack.
        min_robust_accuracy: Radius in 1/255 -> share right under the worst case up to that radius.
        min_malignant_recall: Share of malignant pictures given a malignant label; not asked of data without.
        max_calibration_error: Expected calibration error.
        max_detector_fpr: Share of clean test pictures that the detector flags.
        regression_alpha: Level at which the challenger must not be significantly worse than the champion.
        valid_days: How long a verdict holds.
    """

    min_clean_accuracy: float
    min_robust_accuracy: Mapping[int, float]
    min_malignant_recall: float
    max_calibration_error: float
    max_detector_fpr: float
    regression_alpha: float
    valid_days: int

    def __post_init__(self) -> None:
        """Refuse a policy that cannot be meant: shares outside 0..1, no days, no radius."""
        shares = {
            "min_clean_accuracy": self.min_clean_accuracy,
            **{f"min_robust_accuracy.{radius}": floor for radius, floor in self.min_robust_accuracy.items()},
            "min_malignant_recall": self.min_malignant_recall,
            "max_calibration_error": self.max_calibration_error,
            "max_detector_fpr": self.max_detector_fpr,
            "regression_alpha": self.regression_alpha,
        }
        outside = {name: share for name, share in shares.items() if not 0 <= share <= 1}
        if outside:
            raise ValueError(f"expected shares in 0..1, got {outside}")
        if self.valid_days < 1 or not all(radius >= 1 for radius in self.min_robust_accuracy):
            raise ValueError("expected valid_days and radii of at least 1")


@dataclass(frozen=True, slots=True)
class _WorstCase:
    epsilon_255: int
    robust_accuracy: Rate


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured of one model; ``None`` and absent radii mean "not measured".

    Attributes:
        worst_case: Radius in 1/255 -> share right under all attacks and radii up to it.
        failed_checks: Sanity checks that say the robustness numbers are not to be believed.
        outcomes: Per test picture, for the paired comparison.
    """

    pictures: int
    labels: tuple[str, ...]
    clean_accuracy: Rate | None = None
    worst_case: Mapping[int, Rate] | None = None
    malignant_recall: Rate | None = None
    calibration_error: float | None = None
    detector_fpr: Rate | None = None
    failed_checks: tuple[str, ...] = ()
    outcomes: Outcomes | None = None

    @classmethod
    def from_reports(cls, reports: Reports, outcomes: Outcomes | None = None) -> "Evidence":
        """Return what the reports ``evaluation``, ``robustness`` and ``detector`` say.

        Raises:
            DataError: A report is missing or lacks what the gate needs.
        """
        try:
            evaluation, robustness = reports["evaluation"], reports["robustness"]
            checks = TypeAdapter(list[_Check]).validate_python(robustness["checks"])
            worst = TypeAdapter(list[_WorstCase]).validate_python(robustness["worst_case"])
            rate, optional = TypeAdapter(Rate), TypeAdapter(Rate | None)
            return cls(
                pictures=int(evaluation["data"]["images"]),
                labels=tuple(evaluation["labels"]),
                clean_accuracy=rate.validate_python(evaluation["clean_accuracy"]),
                worst_case={entry.epsilon_255: entry.robust_accuracy for entry in worst},
                malignant_recall=optional.validate_python(evaluation["malignant_recall"]),
                calibration_error=float(evaluation["calibration_error"]),
                detector_fpr=rate.validate_python(reports["detector"]["clean_fpr"]),
                failed_checks=tuple(f"{c.name}: {c.detail}" for c in checks if not c.passed),
                outcomes=outcomes,
            )
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise DataError(f"a report lacks what the gate needs ({error!r}); run `dvc repro`") from error


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The outcome; ``failures`` has a sentence for each rule that is broken, and nothing passes with one."""

    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Return whether no rule is broken."""
        return not self.failures


def decide(challenger: Evidence, champion: Evidence | None, policy: Policy) -> GateDecision:
    """Return why ``challenger`` may not serve; nothing means that it may.

    Args:
        challenger: The model that asks.
        champion: The model that serves, compared on the same pictures where there are any; None: floors only.
        policy: The floors, ceilings and the level of the comparison.
    """
    failures = [*_floors(challenger, policy), *(f"check {check}" for check in challenger.failed_checks)]
    if champion is not None:
        failures += _regressions(challenger, champion, policy.regression_alpha)
    return GateDecision(tuple(failures))


def decide_again(measured: Evidence, policy: Policy) -> GateDecision:
    """Return what a later, smaller measurement of a model that passed ``policy`` refutes.

    What was not measured again is not judged. A floor is refuted when the whole interval lies below it: fewer
    pictures give wider intervals, and a bound that was met must not be lost to chance.
    """
    asked: list[tuple[str, Rate | None, float]] = [
        ("clean accuracy", measured.clean_accuracy, policy.min_clean_accuracy),
        ("malignant recall", measured.malignant_recall, policy.min_malignant_recall),
    ]
    for radius, floor in sorted(policy.min_robust_accuracy.items()):
        asked.append((f"robust accuracy up to {radius}/255", (measured.worst_case or {}).get(radius), floor))
    return GateDecision(
        tuple(
            f"{name} {rate.value:.3f} (95 % interval {_interval(rate)}) lies below {floor:.3f}"
            for name, rate, floor in asked
            if rate is not None and rate.high < floor
        )
    )


def _floors(evidence: Evidence, policy: Policy) -> Iterator[str]:
    yield from _floor("clean accuracy", evidence.clean_accuracy, policy.min_clean_accuracy)
    for radius, floor in sorted(policy.min_robust_accuracy.items()):
        rate = (evidence.worst_case or {}).get(radius)
        yield from _floor(f"worst-case robust accuracy up to {radius}/255", rate, floor)
    # Data without a malignant label has no such recall; a two-class screening set always has.
    if evidence.malignant_recall is not None:
        yield from _floor("malignant recall", evidence.malignant_recall, policy.min_malignant_recall)
    yield from _ceiling("calibration error", evidence.calibration_error, policy.max_calibration_error)
    false_positives = evidence.detector_fpr.value if evidence.detector_fpr else None
    yield from _ceiling("detector's false positive rate", false_positives, policy.max_detector_fpr)


def _floor(name: str, rate: Rate | None, floor: float) -> Iterator[str]:
    if rate is None:
        yield f"{name} was not measured, expected at least {floor:.3f}"
    elif not rate.value >= floor:  # in this form NaN fails
        yield f"{name} {rate.value:.3f} < {floor:.3f} (95 % interval {_interval(rate)})"


def _interval(rate: Rate) -> str:
    return f"{rate.low:.3f} to {rate.high:.3f}"


def _ceiling(name: str, value: float | None, ceiling: float) -> Iterator[str]:
    if value is None:
        yield f"{name} was not measured, expected at most {ceiling:.3f}"
    elif not value <= ceiling:
        yield f"{name} {value:.3f} > {ceiling:.3f}"


def _regressions(challenger: Evidence, champion: Evidence, alpha: float) -> Iterator[str]:
    if challenger.labels != champion.labels:
        yield (
            f"labels {list(challenger.labels)} are not the champion's {list(champion.labels)}: "
            "clients would break; publish it under another publish.model_name"
        )
        return
    yield from _worse(CLEAN, "clean accuracy", challenger, champion, alpha)
    for radius in sorted(set(challenger.worst_case or {}) & set(champion.worst_case or {})):
        name = f"worst-case robust accuracy up to {radius}/255"
        yield from _worse(f"worst_{radius}", name, challenger, champion, alpha)


def _worse(column: str, name: str, challenger: Evidence, champion: Evidence, alpha: float) -> Iterator[str]:
    new, old = _column(challenger, column), _column(champion, column)
    common = new.keys() & old.keys()
    # Different test sets may share a few pictures; then all of both say more than the few pairs.
    if 2 * len(common) >= min(len(new), len(old)):
        lost = sum(old[picture] and not new[picture] for picture in common)
        won = sum(new[picture] and not old[picture] for picture in common)
        p = mcnemar_p(lost, won)
        how = f"of {len(common)} common pictures it loses {lost} and wins {won}"
    else:
        p = two_proportions_p(sum(old.values()), len(old), sum(new.values()), len(new))
        how = f"on other pictures, {len(new)} and {len(old)}"
    if p < alpha:
        ours, theirs = (sum(rights.values()) / len(rights) for rights in (new, old))
        yield (f"{name} {ours:.3f} is significantly below the champion's {theirs:.3f}: {how} (p = {p:.2g} < {alpha})")


def _column(evidence: Evidence, column: str) -> dict[str, bool]:
    """Return picture id -> right; raises DataError where the outcomes lack the column."""
    try:
        rights = {picture: row[column] for picture, row in (evidence.outcomes or {}).items()}
    except KeyError as error:
        raise DataError(f"outcomes.csv has no column {column!r}; run `dvc repro`") from error
    if not rights:
        raise DataError("expected an outcome for each test picture, got none; run `dvc repro`")
    return rights
