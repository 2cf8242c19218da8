"""The gate's rules for the detector: false-positive rates, also per subgroup, and detection of attacks."""

from collections.abc import Iterator

from buckler.evaluation.reports import DetectorReport
from buckler.measurements.results import Rate
from buckler.radius import StatedRadius
from buckler.release.policy import Policy


def failures(found: DetectorReport | None, policy: Policy) -> Iterator[str]:
    """Yield one sentence per broken rule; NaN breaks every rule."""
    ceiling = policy.max_detector_fpr
    if found is None:
        yield f"the detector was not measured, expected a false-positive rate of at most {ceiling:g}"
        return
    if not found.clean_fpr.value <= ceiling:
        yield f"detector's false-positive rate {found.clean_fpr.value:.3f} > {ceiling:.3f}"
    for row in found.harmless:
        if not row.flagged.value <= ceiling:
            share = f"{row.flagged.value:.3f} of pictures after the benign change '{row.change}'"
            yield f"detector flags {share}, > {ceiling:.3f}"
    allowed = policy.max_detector_subgroup_fpr
    for group in found.subgroups:
        rate = group.clean_fpr
        if rate.pictures >= policy.min_subgroup_records and not rate.value <= allowed:
            yield f"detector's false-positive rate of {group.column} '{group.group}' {rate.value:.3f} > {allowed:.3f}"
    yield from _by_radius(found, policy)


def _by_radius(found: DetectorReport, policy: Policy) -> Iterator[str]:
    worst = {row.radius: row for row in found.worst}
    for radius, floor in sorted(policy.min_detector_auc.items()):
        weakest = worst[radius].auc if radius in worst else None
        yield from _floor(radius, weakest.value if weakest else None, floor)
    for radius, allowed in sorted(policy.max_evaded.items()):
        yield from _evaded(radius, worst[radius].adaptive_wrong_and_unflagged if radius in worst else None, allowed)


def _floor(radius: StatedRadius, auc: float | None, floor: float) -> Iterator[str]:
    if auc is None:
        yield f"detector's AUC at {radius} was not measured, expected at least {floor:.3f}"
    elif not auc >= floor:
        yield f"detector's AUC under the attack that it separates worst at {radius} {auc:.3f} < {floor:.3f}"


def _evaded(radius: StatedRadius, rate: Rate | None, allowed: float) -> Iterator[str]:
    if rate is None:
        yield f"evasion of network and detector at {radius} was not measured, expected at most {allowed:.3f}"
    elif not rate.value <= allowed:
        interval = f"{rate.low:.3f} to {rate.high:.3f}"
        yield (
            f"wrong and unflagged under an attacker who knows the detector at {radius} "
            f"{rate.value:.3f} > {allowed:.3f} (95 % interval {interval})"
        )
