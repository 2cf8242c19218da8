"""What an evaluation measures: the results of the functions that measure, and the parts of reports and verdicts.

Only types: a program that shows a measurement imports no attack and no network with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from buckler.measurements.data_source import DataSource
from buckler.radius import StatedRadius

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share ``value`` in 0..1 of so many ``pictures`` with its confidence interval ``low`` to ``high``."""

    value: float
    low: float
    high: float
    pictures: int

    @property
    def interval(self) -> Interval:
        """Return the interval alone, for reports that state the share as a bare number."""
        return self.low, self.high


@dataclass(frozen=True, slots=True)
class DataVersion:
    """Digest of a list of pictures, or of the splits; number of pictures that the report is about."""

    version: str
    images: int


@dataclass(frozen=True, slots=True)
class AttackedData:
    """The attacked pictures.

    Attributes:
        version: The splits' digest.
        images: Number of attacked pictures.
        ids_sha256: SHA-256 of their ids, one per line.
        source: Where they come from; None in reports of versions that did not record it.
    """

    version: str
    images: int
    ids_sha256: str
    source: DataSource | None = None


# --- validation of the pictures

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Result of one expectation; ``expected`` and ``seen`` are texts for people.

    Attributes:
        severity: ``critical``: a violation stops the pipeline; ``warning``: the gate judges it.
    """

    name: str
    severity: Severity
    passed: bool
    expected: str
    seen: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that does not decode, and the code of its error."""

    id: str
    code: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """A picture that was left out because another has the same bytes and the same label."""

    id: str
    same_as: str


# --- clean pictures


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding on clean pictures, if a picture may have several: whether its probability and its answers are right.

    Attributes:
        roc_auc: None if all pictures have the finding, or none has it.
        sensitivity: Share of the pictures with it whose answer names it.
        specificity: Share of the pictures without it whose answer does not name it.
    """

    roc_auc: float | None
    roc_auc_interval: Interval | None
    sensitivity: Rate | None
    specificity: Rate | None


@dataclass(frozen=True, slots=True)
class FindingWorstCase:
    """The rates of a `FindingRow` when clean and under every attack up to one radius."""

    radius: StatedRadius
    sensitivity: Rate | None
    specificity: Rate | None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class's line of the classification report; ``support`` is its number of pictures.

    Each interval is that of the rate above; None if there are no pictures to count.
    """

    precision: float
    precision_interval: Interval | None
    recall: float
    recall_interval: Interval | None
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pictures in one bin of confidence: their mean confidence and their accuracy."""

    confidence: float
    accuracy: float
    accuracy_interval: Interval
    pictures: int


@dataclass(frozen=True, slots=True)
class CleanEvaluation:
    """Clean performance on labelled pictures.

    Attributes:
        balanced_accuracy: Mean over the classes of the share of their pictures that is right.
        roc_auc: Of the dangerous labels against the rest where both exist, else one-vs-rest macro average.
        roc_auc_interval: None for that average, and with fewer than two pictures of either kind.
        calibration_error: Expected calibration error, mean gap between confidence and accuracy.
        malignant_recall: Share of dangerous pictures given any dangerous label; None without dangerous labels.
        confusion: Rows are true, columns predicted classes, in the order of the labels.
    """

    clean_accuracy: Rate
    balanced_accuracy: Rate
    roc_auc: float
    roc_auc_interval: Interval | None
    calibration_error: float
    malignant_recall: Rate | None
    classes: dict[str, ClassRow]
    confusion: list[list[int]]
    reliability: list[ReliabilityBin]


# --- heat maps

MIN_POINTED = 0.8  # share of pictures whose heat map must point at the lesion


@dataclass(frozen=True, slots=True)
class HeatMapCheck:
    """Pointing game on clean pictures with known lesions: does the hottest spot of the heat map lie on the lesion?

    Attributes:
        pointed: Share of all pictures; a picture whose map is flat has no hottest spot and counts as missed.
        by_label: The same by predicted label.
        flat: Pictures with a flat map.
    """

    pointed: Rate
    by_label: dict[str, Rate]
    flat: int

    @property
    def reliable(self) -> bool:
        """Return whether heat maps point at the lesion often enough to be shown."""
        return self.pointed.value >= MIN_POINTED


# --- attacked pictures


@dataclass(frozen=True, slots=True)
class Cell:
    """One attack at one radius.

    Attributes:
        name: Of the suite's line.
        knowledge: The attacker's access to the model, a key of `buckler.attacks.base.KNOWLEDGE`.
        steps, restarts, early_exit, target, queries: As used; without meaning for an attack that lacks the setting.
        tuning: The other settings and constants that decided the result.
        only_survivors: True if only pictures were attacked that no earlier attack had flipped within the radius;
            ``robust_accuracy`` is then the share that survived this and all earlier lines.
        robust_accuracy: Share right clean and attacked, over all pictures.
        attack_success_rate: Share flipped among those right when clean.
        confusion: Rows true, columns predicted under attack.
        malignant_to_benign_rate: Share of dangerous pictures given no dangerous label under attack.
        *_interval: Low and high of the rate's confidence interval.
    """

    name: str
    attack: str
    knowledge: str
    norm: str
    radius: StatedRadius
    steps: int
    restarts: int
    early_exit: bool
    target: int | None
    queries: int
    tuning: Mapping[str, float | str]
    only_survivors: bool
    seed: int
    crafted_in: str
    scored_in: str
    robust_accuracy: Rate
    attack_success_rate: float
    attack_success_rate_interval: Interval | None
    confusion: list[list[int]]
    malignant_to_benign_rate: float | None
    malignant_to_benign_rate_interval: Interval | None


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Rates up to one radius under all attacks together: a picture counts as robust if every attack leaves it right.

    Attributes:
        robust_accuracy: Share right when clean and under every attack.
        malignant_to_benign_rate: Share of dangerous pictures that some attack gives a harmless label.
        sensitivity: Share of dangerous pictures given a dangerous label when clean and under every attack.
        specificity: Share of harmless pictures given a harmless label when clean and under every attack.

    The last three are None if there are no such pictures, or if all labels are dangerous or none is.
    """

    radius: StatedRadius
    robust_accuracy: Rate
    malignant_to_benign_rate: Rate | None
    sensitivity: Rate | None
    specificity: Rate | None


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Results for the pictures whose manifest has ``group`` in ``column``."""

    column: str
    group: str
    pictures: int
    clean_accuracy: Rate
    worst_case: tuple[WorstCase, ...]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of a sanity check of the evaluation.

    Attributes:
        name: Of the check, with the attack and radius that it concerns.
        kind: Key in `buckler.evaluation.sanity.CHECKS`.
        passed: Whether the measured value is acceptable.
        detail: What was measured.
    """

    name: str
    kind: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Convergence:
    """PGD at one radius, step by step.

    Attributes:
        pictures: How many were attacked, all of them right when clean.
        steps: 0 is the random start alone.
        success_rate: Share flipped at some time up to each of ``steps``, in the precision of the crafter and before
            rounding to 8 bits.
        suite_success_rate: Share of the same pictures that the suite flips up to this radius.
        converged: Whether success rises by at most two points over the last quarter of the steps.
    """

    attack: str
    radius: StatedRadius
    pictures: int
    steps: list[int]
    success_rate: list[float]
    suite_success_rate: float
    converged: bool


@dataclass(frozen=True, slots=True)
class AttackedPicture:
    """A test picture shown attacked: its id, its label, and the answers before and after the attack."""

    id: str
    truth: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Illustration:
    """A few pictures attacked by one line of the suite at one radius."""

    attack: str
    norm: str
    radius: StatedRadius
    pictures: tuple[AttackedPicture, ...]


# --- serving runtimes


@dataclass(frozen=True, slots=True)
class ParityPolicy:
    """Largest differences between a serving runtime and the reference; ``parity`` in ``export`` of params.yaml."""

    min_label_agreement: float
    max_probability_gap: float
    max_robust_accuracy_gap: float
    max_detector_auc_gap: float

    def __post_init__(self) -> None:
        """Reject shares outside 0..1."""
        shares = {name: getattr(self, name) for name in self.__slots__}
        outside = {name: share for name, share in shares.items() if not 0 <= share <= 1}
        if outside:
            raise ValueError(f"expected shares in 0..1, got {outside}")


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences between two runtimes of one network, as shares.

    Attributes:
        pictures: Number of clean pictures compared.
        label_agreement: Share of them with the same label.
        probability_gap: Mean distance (total variation) of the probabilities.
        robust_accuracy_gap: Largest difference over the radii in the share right clean and attacked.
        detector_auc_gap: Largest difference over the radii in the area under the ROC curve of a detector that is
            fitted on each runtime's own answers.
    """

    pictures: int
    label_agreement: float
    probability_gap: float
    robust_accuracy_gap: float
    detector_auc_gap: float

    def failures(self, policy: ParityPolicy) -> tuple[str, ...]:
        """Return why the runtime may not replace the reference; empty if it may."""
        failures = []
        if not self.label_agreement >= policy.min_label_agreement:  # in this form NaN fails
            failures.append(f"label agreement {self.label_agreement:.4f} < {policy.min_label_agreement:g}")
        for name in ("probability_gap", "robust_accuracy_gap", "detector_auc_gap"):
            gap, ceiling = getattr(self, name), getattr(policy, f"max_{name}")
            if not gap <= ceiling:
                failures.append(f"{name.replace('_', ' ')} {gap:.4f} > {ceiling:g}")
        return tuple(failures)


@dataclass(frozen=True, slots=True)
class ParityAttack:
    """The attack under which runtimes are compared, and its radii."""

    attack: str
    radii: tuple[StatedRadius, ...]
    steps: int
