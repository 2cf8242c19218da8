"""What the evaluation of the detector measures; see `buckler.measurements.results`."""

from dataclasses import dataclass

from buckler.measurements.results import Interval, Rate
from buckler.radius import StatedRadius


@dataclass(frozen=True, slots=True)
class DetectedAttack:
    """The detector against one attack at one radius.

    Attributes:
        attack: Name of the suite's line.
        stops_at_boundary: Whether the attack stops changing a picture once its answer is wrong.
        adaptive: Whether the attacker knows the detector.
        objective: Goal of an adaptive attacker.
        auc: Area under the ROC curve, attacked against clean pictures.
        tpr_at_fpr: False-positive rate, with two decimals -> share detected at it.
        flagged: Share of attacked pictures above the threshold.
        wrong: Share of wrong answers.
        wrong_and_unflagged: Share of wrong answers that no check of the input flags.
        steps: Of the attack; None where it has no such setting.
    """

    attack: str
    norm: str
    radius: StatedRadius
    stops_at_boundary: bool
    adaptive: bool
    auc: float
    tpr_at_fpr: dict[str, float]
    tpr_at_fpr_interval: dict[str, Interval]
    flagged: Rate
    wrong: Rate
    wrong_and_unflagged: Rate
    steps: int | None = None
    objective: str | None = None


@dataclass(frozen=True, slots=True)
class WeakestDetection:
    """The attack that the detector separates worst at a radius, and the area under its ROC curve."""

    attack: str
    value: float


@dataclass(frozen=True, slots=True)
class WorstDetection:
    """The detector at one L-infinity radius.

    Attributes:
        auc: None if no attack that runs to its end was measured.
        wrong_and_unflagged: Of the best attack.
        adaptive_wrong_and_unflagged: Of an attacker who knows the detector and tries every objective; None if none was
            measured.
    """

    radius: StatedRadius
    auc: WeakestDetection | None
    wrong_and_unflagged: Rate
    adaptive_wrong_and_unflagged: Rate | None


@dataclass(frozen=True, slots=True)
class FlaggedSubgroup:
    """Share of a subgroup's clean pictures that the detector flags."""

    column: str
    group: str
    clean_fpr: Rate


@dataclass(frozen=True, slots=True)
class BenignChange:
    """The detector on pictures after a benign change."""

    change: str
    auc: float
    flagged: Rate


@dataclass(frozen=True, slots=True)
class Strangers:
    """Pictures of a kind that the model was not trained on: the share flagged for any reason, and for each."""

    kind: str
    flagged: Rate
    reasons: dict[str, Rate]


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """The share of wrong answers (``risk``) among the least suspicious pictures, ``coverage`` of all."""

    coverage: float
    risk: float
