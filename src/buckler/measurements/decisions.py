"""What the decisions of a model miss, and what they cost in reviews; see `buckler.measurements.results`."""

from dataclasses import dataclass

from buckler.measurements.results import Rate


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """Answers whose label has a calibrated probability of at least ``low`` and less than ``high``.

    Attributes:
        confidence: Their mean probability.
        pictures: How many there were.
        right: How many of these were right.
    """

    low: float
    high: float
    confidence: float
    pictures: int
    right: int


@dataclass(frozen=True, slots=True)
class DangerLimit:
    """The limit of an answer with a harmless label, and the dangerous calibration pictures that it was set on.

    Attributes:
        limit: The dangerous labels together may have this probability at most; None: there is no valid limit.
        min_sensitivity: Least share of dangerous pictures that must not pass as harmless.
        confidence: With which it must be kept.
        pictures: Dangerous calibration pictures.
        missed: Those of them that pass as harmless.
        sensitivity_low: Lower bound, one-sided with ``confidence``, of the share that does not; None without pictures.
    """

    limit: float | None
    min_sensitivity: float
    confidence: float
    pictures: int
    missed: int
    sensitivity_low: float | None


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions on clean test pictures.

    Attributes:
        accepted_misses: Share of dangerous pictures with a harmless label and the decision ``accept``.
        reviews: Share of pictures with the decision ``review``.
        harmless_reviews, dangerous_reviews: The same of the harmless and of the dangerous pictures.
        reasons: Reason -> share of pictures that have it; a picture may have several.

    A rate is None if there are no such pictures.
    """

    accepted_misses: Rate | None
    reviews: Rate
    harmless_reviews: Rate | None
    dangerous_reviews: Rate | None
    reasons: dict[str, Rate]
