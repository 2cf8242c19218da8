"""The rules for promotion: pure functions from measured numbers to reasons against promotion."""

from collections.abc import Iterator
from dataclasses import dataclass

from buckler import findings
from buckler.errors import DataError
from buckler.evaluation.statistics import (
    CONFIDENCE,
    below_p,
    holm,
    mcnemar_p,
    smallest_sample,
    two_proportions_p,
)
from buckler.measurements.results import Rate, Subgroup
from buckler.radius import NO_ATTACK, StatedRadius
from buckler.release import data_floors, detector_floors
from buckler.release.evidence import CLEAN, Evidence
from buckler.release.policy import Policy

SUBGROUP_ALPHA = 1 - CONFIDENCE


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The gate's decision; it passes only without ``failures``, which has one sentence per broken rule.

    ``notes`` name what was measured but not judged; ``kinds``, from ``REFUTABLE_KINDS``, the floors that a later
    measurement refutes.
    """

    failures: tuple[str, ...]
    notes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Return whether no rule is broken."""
        return not self.failures


def decide(challenger: Evidence, champion: Evidence | None, policy: Policy) -> GateDecision:
    """Decide whether ``challenger`` may serve.

    Args:
        challenger: Evidence of the candidate.
        champion: Evidence of the live model, compared on common pictures where there are enough; None: floors only.
        policy: The floors, ceilings and the level of the comparison.
    """
    failures = [
        *_floors(challenger, policy),
        *_subgroups_not_measured(challenger, policy),
        *_subgroup_floors(challenger, policy),
        *(f"check {check}" for check in challenger.failed_checks),
        *challenger.runtime_failures,
        *data_floors.failures(challenger.validation, policy),
    ]
    if champion is not None:
        failures += _regressions(challenger, champion, policy.regression_alpha)
    notes = (
        *challenger.runtime_notes,
        *_subgroups_not_judged(challenger, policy),
        *data_floors.allowed(challenger.validation, policy),
    )
    return GateDecision(tuple(failures), notes)


def decide_again(measured: Evidence, policy: Policy) -> GateDecision:
    """Return which floors of ``policy`` a later, smaller measurement refutes.

    Only what was measured again is judged. A floor is refuted when the whole interval is below it: fewer pictures
    give wider intervals, and a model that meets a floor must not fail it by chance. Subgroups follow the same rule
    as in ``decide``, which already allows for chance.
    """
    refuted = [
        (kind, f"{name} {rate.value:.3f} (95 % interval {_interval(rate)}) is below {floor:.3f}")
        for kind, name, rate, floor in _floors_of(measured, policy)
        if rate is not None and rate.high < floor
    ]
    refuted += [("subgroup", failure) for failure in _subgroup_floors(measured, policy)]
    return GateDecision(
        tuple(failure for _, failure in refuted),
        tuple(_subgroups_not_judged(measured, policy)),
        tuple(dict.fromkeys(kind for kind, _ in refuted)),
    )


def _floors_of(evidence: Evidence, policy: Policy) -> Iterator[tuple[str, str, Rate | None, float]]:
    """Yield every floor on all pictures together: its kind and name, the measured rate, the floor."""
    worst = evidence.worst_case or {}
    yield "clean_accuracy", _accuracy(NO_ATTACK), evidence.clean_accuracy, policy.min_clean_accuracy
    for radius, floor in sorted(policy.min_robust_accuracy.items()):
        entry = worst.get(radius)
        yield "robust_accuracy", _accuracy(radius), entry.robust_accuracy if entry else None, floor
    # Data without a dangerous label has no such rates.
    if evidence.malignant_recall is not None:
        yield "malignant_recall", "recall of dangerous labels", evidence.malignant_recall, policy.min_malignant_recall
    clinical = {"sensitivity": policy.min_robust_sensitivity, "specificity": policy.min_robust_specificity}
    for name, floors in clinical.items():
        for radius, floor in sorted(floors.items()):
            rate = getattr(worst.get(radius), name, None)
            if rate is not None or radius not in worst:
                yield name, f"worst-case {name} up to {radius}", rate, floor
    yield from _floors_of_findings(evidence, policy)


def _floors_of_findings(evidence: Evidence, policy: Policy) -> Iterator[tuple[str, str, Rate | None, float]]:
    """Yield the clinical floors of each dangerous finding: a set with one dangerous finding must not hide another."""
    dangerous = findings.with_only(evidence.labels, evidence.dangerous) if evidence.findings else ()
    for finding in dangerous:
        found = evidence.findings[finding]
        yield "malignant_recall", f"sensitivity of {finding}", found.clean.sensitivity, policy.min_malignant_recall
        worst = {row.radius: row for row in found.worst_case}
        for radius, floor in sorted(policy.min_robust_sensitivity.items()):
            rate = worst[radius].sensitivity if radius in worst else None
            yield "sensitivity", f"worst-case sensitivity of {finding} up to {radius}", rate, floor
        for radius, floor in sorted(policy.min_robust_specificity.items()):
            rate = worst[radius].specificity if radius in worst else None
            yield "specificity", f"worst-case specificity of {finding} up to {radius}", rate, floor


def _floors(evidence: Evidence, policy: Policy) -> Iterator[str]:
    for _, name, rate, floor in _floors_of(evidence, policy):
        yield from _floor(name, rate, floor, policy.max_margin_of_error)
    yield from _ceiling("calibration error", evidence.calibration_error, policy.max_calibration_error)
    yield from _accepted_misses(evidence, policy)
    yield from detector_floors.failures(evidence.detector, policy)


def _floor(name: str, rate: Rate | None, floor: float, margin: float) -> Iterator[str]:
    if rate is None:
        yield f"{name} was not measured, expected at least {floor:.3f}"
        return
    if not rate.value >= floor:  # in this form NaN fails
        yield f"{name} {rate.value:.3f} < {floor:.3f} (95 % interval {_interval(rate)})"
    if floor:  # a floor of zero requires nothing
        yield from _too_few(name, rate, f"a floor of {floor:g}", smallest_sample(floor, margin), margin)


def _too_few(name: str, rate: Rate, line: str, needed: int, margin: float) -> Iterator[str]:
    if rate.pictures < needed:
        yield (
            f"{name} was judged on {rate.pictures} pictures; {line} needs at least {needed} "
            f"for an interval of plus or minus {margin:g}"
        )


def _accepted_misses(evidence: Evidence, policy: Policy) -> Iterator[str]:
    name, found, ceiling = "share of accepted misses", evidence.decisions, policy.max_accepted_misses
    if ceiling == 1:  # requires nothing, also of the verdicts of earlier versions, which did not measure it
        return
    if found is None:
        yield f"{name} was not measured, expected at most {ceiling:.3f}"
    elif rate := found.with_limit.accepted_misses:  # data without a dangerous label has no such rate
        if not rate.value <= ceiling:
            yield f"{name} {rate.value:.3f} > {ceiling:.3f} (95 % interval {_interval(rate)})"
        margin = policy.max_margin_of_error
        yield from _too_few(name, rate, f"a ceiling of {ceiling:g}", smallest_sample(ceiling, margin), margin)


def _subgroup_floors(evidence: Evidence, policy: Policy) -> Iterator[str]:
    """Yield which subgroups are significantly below a floor, corrected for all these floors together."""
    judged = [
        (radius, group, rate, floor)
        for group in evidence.subgroups or ()
        if group.pictures >= policy.min_subgroup_records
        for radius, rate in _by_radius(group).items()
        if (floor := _subgroup_floors_by_radius(policy).get(radius))
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
    for radius, floor in _subgroup_floors_by_radius(policy).items():
        if radius not in measured:
            yield f"{_accuracy(radius)} of subgroups was not measured, expected at least {floor:.3f}"


def _subgroups_not_judged(evidence: Evidence, policy: Policy) -> Iterator[str]:
    small = [group for group in evidence.subgroups or () if group.pictures < policy.min_subgroup_records]
    if small and _subgroup_floors_by_radius(policy):
        listed = ", ".join(f"{group.column} {group.group!r} ({group.pictures})" for group in small)
        yield f"not judged, fewer than {policy.min_subgroup_records} pictures: {listed}"


def _subgroup_floors_by_radius(policy: Policy) -> dict[StatedRadius, float]:
    """Return radius -> floor above zero; without attack the radius is `NO_ATTACK`."""
    floors = {NO_ATTACK: policy.min_subgroup_clean_accuracy, **policy.min_subgroup_robust_accuracy}
    return {radius: floor for radius, floor in sorted(floors.items()) if floor}


def _by_radius(group: Subgroup) -> dict[StatedRadius, Rate]:
    return {NO_ATTACK: group.clean_accuracy} | {entry.radius: entry.robust_accuracy for entry in group.worst_case}


def _accuracy(radius: StatedRadius) -> str:
    return "clean accuracy" if radius == NO_ATTACK else f"worst-case robust accuracy up to {radius}"


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
    compared = [_compare(radius, challenger, champion) for radius in (NO_ATTACK, *sorted(shared))]
    adjusted = holm([comparison.p for comparison in compared])
    for comparison, p in zip(compared, adjusted, strict=True):
        if p < alpha:
            yield (
                f"{comparison.sentence} (p = {comparison.p:.2g}, {p:.2g} < {alpha} after Holm's correction for "
                f"{len(compared)} comparisons)"
            )


@dataclass(frozen=True, slots=True)
class _Comparison:
    sentence: str
    p: float


def _compare(radius: StatedRadius, challenger: Evidence, champion: Evidence) -> _Comparison:
    """Return the probability of the challenger's loss by chance, and the sentence that reports it."""
    column = CLEAN if radius == NO_ATTACK else f"worst_{radius}"
    new, old = _column(challenger, column), _column(champion, column)
    common = new.keys() & old.keys()
    # With few common pictures the whole test sets are compared: they carry more information than the few pairs.
    if 2 * len(common) >= min(len(new), len(old)):
        lost = sum(old[picture] and not new[picture] for picture in common)
        won = sum(new[picture] and not old[picture] for picture in common)
        p = mcnemar_p(lost, won)
        how = f"of {len(common)} common pictures it loses {lost} and wins {won}"
    else:
        p = two_proportions_p(sum(old.values()), len(old), sum(new.values()), len(new))
        how = f"on other pictures, {len(new)} and {len(old)}"
    ours, theirs = (sum(right.values()) / len(right) for right in (new, old))
    sentence = f"{_accuracy(radius)} {ours:.3f} is significantly below the champion's {theirs:.3f}: {how}"
    return _Comparison(sentence, p)


def _column(evidence: Evidence, column: str) -> dict[str, bool]:
    """Return picture id -> right; raises DataError where the outcomes lack the column."""
    try:
        right = {picture: row[column] for picture, row in (evidence.outcomes or {}).items()}
    except KeyError as error:
        raise DataError(f"outcomes.csv has no column {column!r}; run `dvc repro`") from error
    if not right:
        raise DataError("expected an outcome for each test picture, got none; run `dvc repro`")
    return right
