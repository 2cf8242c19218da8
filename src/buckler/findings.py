"""Several findings in one record: a class is a set of findings, and its label names them, ``streaks+veil``.

Network, attacks, detector and gate know classes only, so that an answer is right if its whole set is. The probability
of a finding is the sum over the sets that contain it.

Method: label powerset. Source: Tsoumakas & Vlahavas, "Random k-labelsets", ECML 2007, section 2.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

NO_FINDING: Final = "no_finding"
JOINT: Final = "+"


def label_of(found: Collection[str]) -> str:
    """Return the label of the set ``found``."""
    return JOINT.join(sorted(found)) or NO_FINDING


def members(label: str) -> frozenset[str]:
    """Return the findings in the set with ``label``."""
    return frozenset() if label == NO_FINDING else frozenset(label.split(JOINT))


def of(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the findings that occur in ``labels``, sorted."""
    return tuple(sorted(frozenset().union(*map(members, labels))))


def sets_of(findings: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of all sets of ``findings``: 2 to the power of their number."""
    return tuple(
        label_of([finding for bit, finding in enumerate(findings) if number >> bit & 1])
        for number in range(2 ** len(findings))
    )


def with_any(labels: Iterable[str], wanted: Collection[str]) -> tuple[str, ...]:
    """Return those of ``labels`` that contain one of the findings ``wanted``."""
    return tuple(label for label in labels if members(label) & frozenset(wanted))


def with_only(labels: Sequence[str], dangerous: Collection[str]) -> tuple[str, ...]:
    """Return the findings of ``labels`` that occur in ``dangerous`` labels only."""
    harmless = frozenset(of(label for label in labels if label not in dangerous))
    return tuple(finding for finding in of(labels) if finding not in harmless)


def shares(probabilities: Mapping[str, float], findings: Sequence[str]) -> dict[str, float]:
    """Return the probability of each of ``findings`` from the ``probabilities`` of the labels."""
    return {
        finding: sum(share for label, share in probabilities.items() if finding in members(label))
        for finding in findings
    }


def is_name(finding: str) -> bool:
    """Return whether a finding may have this name."""
    return bool(finding) and JOINT not in finding and finding != NO_FINDING
