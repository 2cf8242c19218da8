"""The rule for promotion: numbers in, reasons out. Pure: no file, clock or server is touched here."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pydantic import TypeAdapter, ValidationError

from buckler import detector_floors
from buckler.detector_floors import DetectorEvidence
from buckler.errors import DataError
from buckler.evaluation.parity import Parity
from buckler.evaluation.statistics import (
    CONFIDENCE,
    Rate,
    below_p,
    holm,
    mcnemar_p,
    smallest_sample,
    two_proportions_p,
)
from buckler.evaluation.subgroups import Subgroup, WorstCase

Reports = Mapping[str, Mapping[str, Any]]  # report name without suffix -> its JSON
Outcomes = Mapping[str, Mapping[str, bool]]  # picture id -> column (clean, worst_1, …) -> right

CLEAN = "clean"
# What a later measurement may refute, in the order of the rules.
KINDS = ("clean_accuracy", "robust_accuracy", "malignant_recall", "sensitivity", "specificity", "subgroup")
SUBGROUP_ALPHA = 1 - CONFIDENCE

Floors = Mapping[int, float]  # radius in 1/255 -> least share under the worst case up to that radius


@dataclass(frozen=True, slots=True)
class Policy:
    """Section ``gate`` of params.yaml: what a model must reach.

    Three rules keep chance out of it:

    - **Few pictures.** A floor above zero is judged only on enough pictures: so many that the 95 % interval of a rate
      at that floor is at most plus or minus ``max_margin_of_error``. On fewer the gate fails and says how many it
      takes. The floors themselves are held against the measured shares.
    - **Several comparisons.** The challenger is compared with the champion on clean pictures and at every radius.
      The p-values are adjusted by Holm's method, so that an equal model is refused with a probability of at
      most ``regression_alpha`` in all of them together.
    - **Many subgroups.** Among many small groups some fall below any floor by chance. A subgroup's floor is
      therefore broken only where the share is significantly below it: exact binomial test, adjusted by Holm's
      method over all subgroup floors, level 5 %. Groups of fewer than ``min_subgroup_pictures`` are reported,
      not judged, and the decision notes them.

    Attributes:
        min_clean_accuracy: Share right without attack.
        min_robust_accuracy: Radius in 1/255 -> share right under the worst case up to that radius.
        min_malignant_recall: Share of malignant pictures given a malignant label; not asked of data without.
        min_robust_sensitivity: Radius -> the same when clean and under every attack up to that radius.
        min_robust_specificity: Radius -> share of benign pictures given a benign label in that way.
        min_subgroup_clean_accuracy: Share right without attack in each subgroup.
        min_subgroup_robust_accuracy: Radius -> share right under the worst case in each subgroup.
        min_subgroup_pictures: Least size of a subgroup that is judged.
        max_margin_of_error: Largest half width of a 95 % interval at a floor that is judged.
        max_calibration_error: Expected calibration error.
        max_detector_fpr: Share of clean test pictures that the detector flags, and of those after harmless changes.
        max_detector_subgroup_fpr: The same of the clean pictures of a class or subgroup.
        min_detector_auc: Radius -> area under the ROC curve of the attack at that radius that is told worst.
        max_evaded: Radius -> share wrong and not flagged under the attacks that know the detector.
        regression_alpha: Level at which the challenger must not be significantly worse than the champion.
        valid_days: How long a verdict holds.
    """

    min_clean_accuracy: float
    min_robust_accuracy: Floors
    min_malignant_recall: float
    min_robust_sensitivity: Floors
    min_robust_specificity: Floors
    min_subgroup_clean_accuracy: float
    min_subgroup_robust_accuracy: Floors
    min_subgroup_pictures: int
    max_margin_of_error: float
    max_calibration_error: float
    max_detector_fpr: float
    max_detector_subgroup_fpr: float
    min_detector_auc: Floors
    max_evaded: Floors
    regression_alpha: float
    valid_days: int

    def __post_init__(self) -> None:
        """Refuse a policy that cannot be meant: shares outside 0..1, no days, no radius, no picture."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        by_radius = {name: floors for name, floors in values.items() if isinstance(floors, Mapping)}
        shares = {f"{name}.{radius}": floor for name, floors in by_radius.items() for radius, floor in floors.items()}
        counts = {"valid_days", "min_subgroup_pictures"}
        shares |= {name: value for name, value in values.items() if name not in counts | by_radius.keys()}
        outside = {name: share for name, share in shares.items() if not 0 <= share <= 1}
        if outside:
            raise ValueError(f"expected shares in 0..1, got {outside}")
        if not 0 < self.max_margin_of_error < 0.5:
            raise ValueError(f"expected max_margin_of_error above 0 and below 0.5, got {self.max_margin_of_error}")
        radii = chain.from_iterable(by_radius.values())
        if min(self.valid_days, self.min_subgroup_pictures, *radii) < 1:
            raise ValueError("expected valid_days, min_subgroup_pictures and radii of at least 1")


@dataclass(frozen=True, slots=True)
class ParityPolicy:
    """How far a runtime may lie from the reference and serve; ``parity`` in section ``export`` of params.yaml."""

    min_label_agreement: float
    max_probability_gap: float
    max_robust_accuracy_gap: float
    max_detector_auc_gap: float

    def __post_init__(self) -> None:
        """Refuse shares outside 0..1."""
        outside = {name: share for name, share in dataclasses.asdict(self).items() if not 0 <= share <= 1}
        if outside:
            raise ValueError(f"expected shares in 0..1, got {outside}")


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


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The outcome; ``failures`` has a sentence for each rule that is broken, and nothing passes with one.

    ``notes`` say what was measured but not judged; ``kinds``, of ``KINDS``, what a later measurement refutes.
    """

    failures: tuple[str, ...]
    notes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Return whether no rule is broken."""
        return not self.failures


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


def decide(challenger: Evidence, champion: Evidence | None, policy: Policy) -> GateDecision:
    """Return why ``challenger`` may not serve; nothing means that it may.

    Args:
        challenger: The model that asks.
        champion: The model that serves, compared on the same pictures where there are any; None: floors only.
        policy: The floors, ceilings and the level of the comparison.
    """
    failures = [
        *_floors(challenger, policy),
        *_subgroups_not_measured(challenger, policy),
        *_subgroup_floors(challenger, policy),
        *(f"check {check}" for check in challenger.failed_checks),
        *challenger.runtime_failures,
    ]
    if champion is not None:
        failures += _regressions(challenger, champion, policy.regression_alpha)
    return GateDecision(tuple(failures), (*challenger.runtime_notes, *_subgroups_not_judged(challenger, policy)))


def decide_again(measured: Evidence, policy: Policy) -> GateDecision:
    """Return what a later, smaller measurement of a model that passed ``policy`` refutes.

    What was not measured again is not judged. A floor is refuted when the whole interval lies below it: fewer
    pictures give wider intervals, and a bound that was met must not be lost to chance. Subgroups have the same
    rule as in ``decide``, which allows for chance already.
    """
    refuted = [
        (kind, f"{name} {rate.value:.3f} (95 % interval {_interval(rate)}) lies below {floor:.3f}")
        for kind, name, rate, floor in _asked(measured, policy)
        if rate is not None and rate.high < floor
    ]
    refuted += [("subgroup", failure) for failure in _subgroup_floors(measured, policy)]
    return GateDecision(
        tuple(failure for _, failure in refuted),
        tuple(_subgroups_not_judged(measured, policy)),
        tuple(dict.fromkeys(kind for kind, _ in refuted)),
    )


def _asked(evidence: Evidence, policy: Policy) -> Iterator[tuple[str, str, Rate | None, float]]:
    """Yield all that the policy asks of all pictures together: its kind and name, what was measured, the floor."""
    worst = evidence.worst_case or {}
    yield "clean_accuracy", _accuracy(0), evidence.clean_accuracy, policy.min_clean_accuracy
    for radius, floor in sorted(policy.min_robust_accuracy.items()):
        entry = worst.get(radius)
        yield "robust_accuracy", _accuracy(radius), entry.robust_accuracy if entry else None, floor
    # Data without a malignant label has no such rates; a two-class screening set always has.
    if evidence.malignant_recall is not None:
        yield "malignant_recall", "malignant recall", evidence.malignant_recall, policy.min_malignant_recall
    clinical = {"sensitivity": policy.min_robust_sensitivity, "specificity": policy.min_robust_specificity}
    for name, floors in clinical.items():
        for radius, floor in sorted(floors.items()):
            rate = getattr(worst.get(radius), name, None)
            if rate is not None or radius not in worst:
                yield name, f"worst-case {name} up to {radius}/255", rate, floor


def _floors(evidence: Evidence, policy: Policy) -> Iterator[str]:
    for _, name, rate, floor in _asked(evidence, policy):
        yield from _floor(name, rate, floor, policy.max_margin_of_error)
    yield from _ceiling("calibration error", evidence.calibration_error, policy.max_calibration_error)
    yield from detector_floors.failures(evidence.detector, policy)


def _floor(name: str, rate: Rate | None, floor: float, margin: float) -> Iterator[str]:
    if rate is None:
        yield f"{name} was not measured, expected at least {floor:.3f}"
        return
    if not rate.value >= floor:  # in this form NaN fails
        yield f"{name} {rate.value:.3f} < {floor:.3f} (95 % interval {_interval(rate)})"
    needed = smallest_sample(floor, margin) if floor else 0  # a floor of zero asks nothing
    if rate.pictures < needed:
        yield (
            f"{name} was judged on {rate.pictures} pictures; a floor of {floor:g} needs at least {needed} "
            f"for an interval of plus or minus {margin:g}"
        )


def _subgroup_floors(evidence: Evidence, policy: Policy) -> Iterator[str]:
    """Yield which subgroups lie significantly below a floor, all of these floors judged together."""
    judged = [
        (radius, group, rate, floor)
        for group in evidence.subgroups or ()
        if group.pictures >= policy.min_subgroup_pictures
        for radius, rate in _by_radius(group).items()
        if (floor := _subgroup_asks(policy).get(radius))
    ]
    chances = [below_p(round(rate.value * rate.pictures), rate.pictures, floor) for _, _, rate, floor in judged]
    for (radius, group, rate, floor), p in zip(judged, holm(chances), strict=True):
        if p < SUBGROUP_ALPHA:
            yield (
                f"{_accuracy(radius)} of {group.column} {group.group!r}, {group.pictures} pictures, {rate.value:.3f} "
                f"is significantly below {floor:.3f} (p = {p:.2g} after Holm's correction for {len(judged)} floors)"
            )


def _subgroups_not_measured(evidence: Evidence, policy: Policy) -> Iterator[str]:
    measured = {radius for group in evidence.subgroups or () for radius in _by_radius(group)}
    for radius, floor in _subgroup_asks(policy).items():
        if radius not in measured:
            yield f"{_accuracy(radius)} of subgroups was not measured, expected at least {floor:.3f}"


def _subgroups_not_judged(evidence: Evidence, policy: Policy) -> Iterator[str]:
    small = [group for group in evidence.subgroups or () if group.pictures < policy.min_subgroup_pictures]
    if small and _subgroup_asks(policy):
        listed = ", ".join(f"{group.column} {group.group!r} ({group.pictures})" for group in small)
        yield f"not judged, fewer than {policy.min_subgroup_pictures} pictures: {listed}"


def _subgroup_asks(policy: Policy) -> dict[int, float]:
    """Return radius -> floor above zero; without attack the radius is 0."""
    asked = {0: policy.min_subgroup_clean_accuracy, **policy.min_subgroup_robust_accuracy}
    return {radius: floor for radius, floor in sorted(asked.items()) if floor}


def _by_radius(group: Subgroup) -> dict[int, Rate]:
    return {0: group.clean_accuracy} | {entry.epsilon_255: entry.robust_accuracy for entry in group.worst_case}


def _accuracy(radius: int) -> str:
    return f"worst-case robust accuracy up to {radius}/255" if radius else "clean accuracy"


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
    shared = set(challenger.worst_case or {}) & set(champion.worst_case or {})
    compared = [_compare(radius, challenger, champion) for radius in (0, *sorted(shared))]
    adjusted = holm([comparison.p for comparison in compared])
    for comparison, p in zip(compared, adjusted, strict=True):
        if p < alpha:
            yield (
                f"{comparison.finding} (p = {comparison.p:.2g}, {p:.2g} < {alpha} after Holm's correction for "
                f"{len(compared)} comparisons)"
            )


@dataclass(frozen=True, slots=True)
class _Comparison:
    finding: str
    p: float


def _compare(radius: int, challenger: Evidence, champion: Evidence) -> _Comparison:
    """Return how likely the challenger's loss is by chance, and the sentence to say if it is not."""
    column = f"worst_{radius}" if radius else CLEAN
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
    ours, theirs = (sum(rights.values()) / len(rights) for rights in (new, old))
    finding = f"{_accuracy(radius)} {ours:.3f} is significantly below the champion's {theirs:.3f}: {how}"
    return _Comparison(finding, p)


def _column(evidence: Evidence, column: str) -> dict[str, bool]:
    """Return picture id -> right; raises DataError where the outcomes lack the column."""
    try:
        rights = {picture: row[column] for picture, row in (evidence.outcomes or {}).items()}
    except KeyError as error:
        raise DataError(f"outcomes.csv has no column {column!r}; run `dvc repro`") from error
    if not rights:
        raise DataError("expected an outcome for each test picture, got none; run `dvc repro`")
    return rights
