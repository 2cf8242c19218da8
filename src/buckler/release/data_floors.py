"""The gate's rules for the data: warnings of the stage ``validate``, files in quarantine, and small classes."""

from collections.abc import Iterator

from buckler.evaluation.reports import ValidationReport
from buckler.measurements.results import Expectation
from buckler.release.policy import Policy


def failures(found: ValidationReport | None, policy: Policy) -> Iterator[str]:
    """Yield one sentence per broken rule."""
    if found is None:
        yield f"the data were not validated, expected at least {policy.min_class_records} records in every class"
        return
    for one in found.expectations:
        if not one.passed and (one.severity == "critical" or one.name not in policy.allowed_warnings):
            yield f"data: {_sentence(one)}"
    share = len(found.quarantined) / found.ingested if found.ingested else 1.0
    if share > policy.max_quarantined:
        yield f"data: {share:.3f} of the files are in quarantine > {policy.max_quarantined:.3f}"
    for label, count in found.classes.items():
        if count < policy.min_class_records:
            yield f"data: {count} usable records of class '{label}' < {policy.min_class_records}"


def allowed(found: ValidationReport | None, policy: Policy) -> Iterator[str]:
    """Yield the warnings that ``policy`` allows."""
    for one in found.expectations if found else ():
        if not one.passed and one.severity == "warning" and one.name in policy.allowed_warnings:
            yield f"allowed by gate.allowed_warnings: data: {_sentence(one)}"


def _sentence(one: Expectation) -> str:
    return f"{one.name}: expected {one.expected}; seen: {one.seen}"
