"""The reports of the stages: one model each, written and read here and nowhere else.

A report is a JSON file of a fixed name with the number of its schema. `read` also accepts the schemas of earlier
versions of Buckler. The same measurement gives the same bytes: no report contains seconds, dates or host names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from buckler.errors import DataError, faults_of
from buckler.measurements.decisions import ConfidenceBin, DangerLimit, Decisions
from buckler.measurements.detection import (
    BenignChange,
    DetectedAttack,
    FlaggedSubgroup,
    RiskPoint,
    Strangers,
    WorstDetection,
)
from buckler.measurements.earlier import with_stated_radii
from buckler.measurements.results import (
    AttackedData,
    Cell,
    CheckResult,
    ClassRow,
    Convergence,
    DataVersion,
    Expectation,
    FindingRow,
    FindingWorstCase,
    HeatMapCheck,
    Illustration,
    Interval,
    Parity,
    ParityAttack,
    ParityPolicy,
    Quarantined,
    Rate,
    ReliabilityBin,
    Repeated,
    Subgroup,
    WorstCase,
)
from buckler.measurements.split import GroupSizes, NearDuplicates, PictureGroup
from buckler.state import documents
from buckler.state.locations import Location

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
OUTCOMES_FILE = "outcomes.csv"  # beside the reports: for each attacked picture, whether it stays right
UNKNOWN = "unknown"  # instruction set of a report from before it was recorded


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """What was measured.

    Attributes:
        digest: Of ``models/classifier``.
        runtime: Of ``models/runtime``, the exported network.
        detector: Of ``models/detector``, where the report concerns it.
        initial_weights: What training started from, as `buckler.models.info.ModelInfo`; None if it was not recorded.
    """

    digest: str
    runtime: str
    detector: str | None = None
    initial_weights: str | None = None


class Report(BaseModel):
    """A report; ``FILE`` is its name, ``SCHEMA`` the number of its form, ``UPGRADES`` lead from each earlier form."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    FILE: ClassVar[str]
    SCHEMA: ClassVar[int] = 1
    UPGRADES: ClassVar[Mapping[int, Upgrade]] = {}

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"schema": self.SCHEMA, **self.model_dump(mode="json")}


def _without(old: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in old.items() if name != key}


# --- split


class SplitReport(Report):
    """Report of the stage ``split``; ``counts`` by label and split."""

    FILE: ClassVar[str] = "split.json"

    data: DataVersion
    counts: dict[str, dict[str, int]]
    groups: GroupSizes
    largest_groups: tuple[PictureGroup, ...]
    near_duplicates: tuple[NearDuplicates, ...]


# --- validation


def _with_severity(old: dict[str, Any]) -> dict[str, Any]:
    expectations = [
        {**_without(each, "hard"), "severity": "critical" if each["hard"] else "warning"}
        for each in old["expectations"]
    ]
    return {**old, "expectations": expectations}


class ValidationReport(Report):
    """Report of the stage ``validate``; ``classes`` has the number of usable pictures by label."""

    FILE: ClassVar[str] = "validation.json"
    SCHEMA: ClassVar[int] = 2
    UPGRADES: ClassVar[Mapping[int, Upgrade]] = {1: _with_severity}

    passed: bool
    data: DataVersion
    ingested: int
    classes: dict[str, int]
    quarantined: tuple[Quarantined, ...]
    repeated: tuple[Repeated, ...]
    expectations: tuple[Expectation, ...]


# --- runtime


def _without_failures(old: dict[str, Any]) -> dict[str, Any]:
    precisions = {name: _without(found, "failures") for name, found in old["precisions"].items()}
    return {"computed_on": UNKNOWN, **old, "precisions": precisions}


class RuntimeReport(Report):
    """Report of the stage ``export``; ``precisions`` is empty for a network that Keras serves.

    Attributes:
        serves: Precision in which the model was scored and serves.
        computed_on: Instruction set of the processor; it decides the last digits of a result.
    """

    FILE: ClassVar[str] = "runtime.json"
    SCHEMA: ClassVar[int] = 3
    UPGRADES: ClassVar[Mapping[int, Upgrade]] = {1: _without_failures, 2: with_stated_radii}

    model: MeasuredModel
    serves: str
    attack: ParityAttack
    crafted_in: str
    computed_on: str
    policy: ParityPolicy
    precisions: dict[str, Parity]


# --- evaluation


def _scored_at_top(old: dict[str, Any]) -> dict[str, Any]:
    model = old["model"]
    moved = {"model": _without(model, "scored_in"), "scored_in": model["scored_in"]}
    return {"computed_on": UNKNOWN, **_without(old, "seconds"), **moved}


def _without_intervals(old: dict[str, Any]) -> dict[str, Any]:
    return {"balanced_accuracy": None, "roc_auc_interval": None, **old}


class EvaluationReport(Report):
    """Report of the stage ``evaluate``: clean performance, as `measurements.CleanEvaluation`.

    Attributes:
        balanced_accuracy, roc_auc_interval: None also in reports of versions that did not measure them.
        findings: Of a model that looks for several in one picture, whose labels are sets of them.
        heat_map: None if the source of the pictures has no masks of their lesions.
    """

    FILE: ClassVar[str] = "evaluation.json"
    SCHEMA: ClassVar[int] = 3
    UPGRADES: ClassVar[Mapping[int, Upgrade]] = {1: _scored_at_top, 2: _without_intervals}

    model: MeasuredModel
    data: DataVersion
    labels: tuple[str, ...]
    scored_in: str
    computed_on: str
    clean_accuracy: Rate
    balanced_accuracy: Rate | None
    roc_auc: float
    roc_auc_interval: Interval | None
    calibration_error: float
    malignant_recall: Rate | None
    classes: dict[str, ClassRow]
    confusion: list[list[int]]
    reliability: list[ReliabilityBin]
    heat_map: HeatMapCheck | None = None
    findings: dict[str, FindingRow] = {}


# --- robustness


def _without_seconds(old: dict[str, Any]) -> dict[str, Any]:
    cells = [_without(cell, "seconds") for cell in old["cells"]]
    return {"computed_on": UNKNOWN, "illustrations": [], **old, "cells": cells}


class RobustnessReport(Report):
    """Report of the stage ``attack``.

    Attributes:
        clean_accuracy, clean_confusion: Of the attacked pictures before the attack.
        subgroup_columns: The grouping columns with their cut points.
        convergence: PGD's success by number of steps.
        illustrations: Pictures in ``reports/examples``.
        findings: As in `EvaluationReport`; by radius.
    """

    FILE: ClassVar[str] = "robustness.json"
    SCHEMA: ClassVar[int] = 3
    UPGRADES: ClassVar[Mapping[int, Upgrade]] = {1: _without_seconds, 2: with_stated_radii}

    model: MeasuredModel
    data: AttackedData
    labels: tuple[str, ...]
    malignant: tuple[str, ...]
    computed_on: str
    clean_accuracy: Rate
    clean_confusion: list[list[int]]
    cells: tuple[Cell, ...]
    worst_case: tuple[WorstCase, ...]
    subgroup_columns: dict[str, tuple[float, ...]]
    subgroups: tuple[Subgroup, ...]
    checks: tuple[CheckResult, ...]
    convergence: tuple[Convergence, ...]
    illustrations: tuple[Illustration, ...]
    findings: dict[str, tuple[FindingWorstCase, ...]] = {}

    @property
    def chance(self) -> float:
        """Return the accuracy of always answering with the most frequent label."""
        sizes = [sum(row) for row in self.clean_confusion]
        return max(sizes) / sum(sizes)


# --- detector


def _digest_of_classifier(old: dict[str, Any]) -> dict[str, Any]:
    model = old["model"]
    judged = {"digest": model["classifier"], "runtime": model["runtime"], "detector": model["detector"]}
    return {"computed_on": UNKNOWN, **old, "model": judged}


class DetectorReport(Report):
    """Report of the stage ``detect``.

    Attributes:
        threshold: Score above which the detector flags a picture.
        max_fpr: Largest share of clean pictures that the threshold was set to flag.
        clean_fpr: Share of clean test pictures that the detector flags.
        clean_flagged: Reason for review, or ``any`` -> share of clean test pictures.
        worst: By L-infinity radius.
        harmless: Benign changes.
        foreign: Pictures of other kinds.
    """

    FILE: ClassVar[str] = "detector.json"
    SCHEMA: ClassVar[int] = 4
    UPGRADES: ClassVar[Mapping[int, Upgrade]] = {2: _digest_of_classifier, 3: with_stated_radii}

    model: MeasuredModel
    scored_in: str
    computed_on: str
    threshold: float
    max_fpr: float
    clean_fpr: Rate
    clean_flagged: dict[str, Rate]
    subgroups: tuple[FlaggedSubgroup, ...]
    attacks: tuple[DetectedAttack, ...]
    worst: tuple[WorstDetection, ...]
    harmless: tuple[BenignChange, ...]
    foreign: tuple[Strangers, ...]
    risk_coverage: tuple[RiskPoint, ...]


# --- decisions


class DecisionsReport(Report):
    """Report of the stage ``detect``: probabilities and decisions on clean test pictures, as served.

    Attributes:
        temperature: Divides the logits before they become probabilities.
        uncalibrated_error: Calibration error at a temperature of one, as in the report of the stage ``evaluate``.
        calibration_error, reliability: Of the calibrated probabilities.
        danger: The limit of an answer with a harmless label; None if no label is dangerous.
        with_limit: The decisions as served.
        without_limit: The same if that limit did not exist.
    """

    FILE: ClassVar[str] = "decisions.json"

    model: MeasuredModel
    data: DataVersion
    scored_in: str
    computed_on: str
    temperature: float
    uncalibrated_error: float
    calibration_error: float
    reliability: tuple[ConfidenceBin, ...]
    danger: DangerLimit | None
    with_limit: Decisions
    without_limit: Decisions


# --- gate


class GateReport(Report):
    """Report of the stage ``gate``; ``challenger`` and ``champion`` are digests of released models."""

    FILE: ClassVar[str] = "gate.json"

    passed: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    policy: dict[str, Any]
    challenger: str
    champion: str | None


REPORTS: tuple[type[Report], ...] = (
    *(SplitReport, ValidationReport, RuntimeReport, EvaluationReport),
    *(RobustnessReport, DetectorReport, DecisionsReport, GateReport),
)

R = TypeVar("R", bound=Report)


def write(report: Report, directory: Path) -> None:
    """Write ``report`` to its file in ``directory``, which is created if missing."""
    documents.write_json(directory / report.FILE, report.document())


def read(kind: type[R], directory: Location) -> R:
    """Return the report of this ``kind`` in ``directory``: a project's ``reports/`` or a release's ``evidence/``.

    Raises:
        DataError: The file is missing or malformed, or its schema is unknown.
    """
    path = directory / kind.FILE
    return parse(kind, documents.read_json(path), path)


def parse(kind: type[R], document: Mapping[str, Any], path: Location) -> R:
    """Return the report in a JSON object; ``path`` names it in errors, and errors are as for `read`."""
    schema, content = document.get("schema"), {key: value for key, value in document.items() if key != "schema"}
    known = sorted({*kind.UPGRADES, kind.SCHEMA})
    if type(schema) is not int or schema not in known:  # true equals 1
        raise DataError(
            f"{path}: expected schema {' or '.join(map(str, known))}, got {schema!r}; run `dvc repro`, or read it with"
            " the version of Buckler that wrote it"
        )
    try:
        for step in range(schema, kind.SCHEMA):
            content = kind.UPGRADES[step](content)
        return kind.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{path}: {faults_of(error)}; run `dvc repro`") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} lacks what schema {schema} requires ({error!r}); run `dvc repro`") from error
