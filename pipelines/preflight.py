"""Stage ``preflight``: refuses settings that no run can satisfy, before any other stage has cost time.

Reads   params.yaml, data/weights.json and the weights it identifies
Writes  data/preflight.txt, which is always the same: the stage ``ingest`` depends on it, so that this one comes first

Every stage checks its own section again when it runs; only this one sees all sections and whether they agree.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd

from buckler import findings, params
from buckler.attacks.table import ATTACKS
from buckler.data import expectations
from buckler.data.expectations import ValidateParams
from buckler.errors import DataError, ParamsError
from buckler.evaluation.suite import AttackSpec, check_names
from buckler.modality.picture.restoration.table import CNN
from buckler.models import initial
from buckler.models.backend import keras
from buckler.models.networks import file, table
from buckler.models.randomised import Randomisation
from buckler.params import FILE_PREFIX, PARAMS_FILE
from buckler.radius import StatedRadius, check_ascending
from buckler.release import remedies
from buckler.release.policy import Policy
from buckler.release.requirements import Demands
from buckler.release.settings import PublishParams
from buckler.training.adversarial import Recipe
from pipelines.attack import AttackParams
from pipelines.detect import DetectParams
from pipelines.export import ExportParams
from pipelines.features import FeaturesParams
from pipelines.settings import CalibrateParams, DataParams, EvaluateParams, TrainParams
from pipelines.split import SplitParams, demands_of
from pipelines.stage import stage
from pipelines.weights import WEIGHTS

_MOST_GENERATED = 50_000  # pictures of a class
PASSED = Path("data/preflight.txt")


@dataclass(frozen=True, slots=True)
class RunParams:
    """All sections of params.yaml that the pipeline reads."""

    data: DataParams
    validate: ValidateParams
    split: SplitParams
    features: FeaturesParams
    train: TrainParams
    harden: Recipe
    randomise: Randomisation
    export: ExportParams
    evaluate: EvaluateParams
    attack: AttackParams
    calibrate: CalibrateParams
    detect: DetectParams
    gate: Policy
    publish: PublishParams


def run(cfg: RunParams) -> None:
    """Check that a run with ``cfg`` can succeed.

    Raises:
        ParamsError: Some sections contradict each other.
        ModelError: There is no such network, or it does not fit the size of the pictures or the weights.
    """
    if faults := list(contradictions(cfg)):
        raise ParamsError(f"{PARAMS_FILE}: {'; '.join(faults)}")
    identified = initial.load(WEIGHTS)
    start = identified.confirm(cfg.train.weights, cfg.train.network)
    identified.step(cfg.data.restore)
    if cfg.train.file:
        _from_file(cfg)
    else:
        table.find(cfg.train.network).base(cfg.data.form.shape, weights=start, seed=cfg.train.seed)
    PASSED.write_text("The settings agree with each other.\n", encoding="utf-8")


def _from_file(cfg: RunParams) -> keras.Model:
    """Return the network in the file that ``train.network`` names."""
    # The labels of a folder are not yet known.
    classes = len(cfg.data.generated) if cfg.data.source == "synthetic" else None
    path, shape = Path(cfg.train.file or ""), cfg.data.form.shape
    return file.load(path, shape, classes=classes, taps=cfg.train.taps).network


def load(path: Path = PARAMS_FILE) -> RunParams:
    """Return all sections of ``path`` that the pipeline reads.

    Raises:
        ParamsError: As `buckler.params.load`, for the first section with an error.
    """
    return parse(params.read(path), path)


def parse(values: Mapping[str, Any], path: Path = PARAMS_FILE) -> RunParams:
    """Return all sections that the pipeline reads from ``values``, the content of ``path``; errors as `load`."""
    sections: dict[str, Any] = {
        name: params.parse(name, section, values.get(name), path) for name, section in get_type_hints(RunParams).items()
    }
    return RunParams(**sections)


def contradictions(cfg: RunParams) -> Iterator[str]:
    """Yield what no run with ``cfg`` can satisfy: one sentence each, with what to change."""
    yield from _of_labels(cfg)
    yield from _of_modality(cfg)
    yield from _of_training(cfg)
    yield from _of_detector(cfg.detect)
    yield from _of_gate(cfg)
    yield from _of_pictures(cfg)


def _of_labels(cfg: RunParams) -> Iterator[str]:
    """Yield dangerous labels that no record can have; those of class folders are known to the stage ingest only."""
    known: dict[str, tuple[str, ...]] = {}
    if cfg.data.source == "synthetic":
        known["the synthetic source"] = cfg.data.generated
        if cfg.data.several_labels and not cfg.data.form.modality.findings:
            yield f"data.several_labels: expected false, the generator of {cfg.data.modality} draws one label at a time"
        if cfg.data.classes:
            classes = list(cfg.data.classes)
            yield f"data.classes: expected {{}} for the synthetic source, which has no table, got {classes}"
    elif cfg.data.classes:
        known["data.classes"] = tuple(cfg.data.classes)
        if cfg.validate.labels and not cfg.data.several_labels:
            yield from _missing("data.classes", cfg.data.classes, "labels of validate.labels", cfg.validate.labels)
    if cfg.validate.labels:
        known["validate.labels"] = cfg.validate.labels
    for place, labels in known.items():
        if cfg.data.several_labels:
            yield from _missing("data.malignant", cfg.data.malignant, f"findings of {place}", findings.of(labels))
            continue  # a record without a finding is harmless
        yield from _missing("data.malignant", cfg.data.malignant, f"labels of {place}", labels)
        if set(labels) <= set(cfg.data.malignant):
            yield (
                f"data.malignant: expected some labels of {place}, got all, {list(cfg.data.malignant)}: if every label "
                "is dangerous, no answer can be a miss"
            )


def _of_modality(cfg: RunParams) -> Iterator[str]:
    """Yield a restoration step or attacks that do not fit the records."""
    modality, fits = cfg.data.modality, [name for name, attack in ATTACKS.items() if attack.fits(cfg.data.modality)]
    if cfg.data.step not in (known := cfg.data.form.modality.restorations):
        named = [FILE_PREFIX + "PATH" if name == CNN else name for name in known]
        yield (
            f"data.restore: expected one of the restoration steps of data.modality {modality}, {named}, got "
            f"{cfg.data.restore!r}"
        )
    for section, suite in (("attack", cfg.attack.suite), ("detect", cfg.detect.suite)):
        if unfit := sorted({spec.attack.name for spec in suite} - set(fits)):
            yield f"{section}.suite: expected attacks that fit data.modality {modality}, {fits}, got {unfit}"
    unit = cfg.data.form.modality.unit
    for setting, radius in _radii_in(cfg):
        if radius.unit != unit.suffix:
            yield f"{setting}: expected a radius of data.modality {modality}, as 1{unit.suffix}, got {radius}"
        elif unit.grid_steps(radius) < 1:
            least = unit.stated(unit.scale / unit.levels)
            yield f"{setting}: expected at least {least}, a step of the grid of data.modality {modality}, got {radius}"


def _radii_in(settings: Any, name: str = "") -> Iterator[tuple[str, StatedRadius]]:
    """Yield every radius in ``settings``, with the name of its setting."""
    if isinstance(settings, StatedRadius):
        yield name, settings
    elif is_dataclass(settings):
        for field in fields(settings):
            yield from _radii_in(getattr(settings, field.name), f"{name}.{field.name}" if name else field.name)
    elif isinstance(settings, (tuple, Mapping)):
        for one in settings:
            yield from _radii_in(one, name)


def _of_training(cfg: RunParams) -> Iterator[str]:
    if cfg.train.taps and not cfg.train.file:
        yield (
            f"train.taps: expected [] for the network {cfg.train.network}, which has its own, got "
            f"{list(cfg.train.taps)}"
        )
    if cfg.train.defence != "adversarial":
        return
    taps = table.taps_of(_from_file(cfg)) if cfg.train.file else table.find(cfg.train.network).taps
    if cfg.harden.unfrozen_blocks > (most := len(taps)):
        yield (
            f"harden.unfrozen_blocks: expected at most {most} for the network {cfg.train.network}, "
            f"got {cfg.harden.unfrozen_blocks}"
        )


def _of_detector(detect: DetectParams) -> Iterator[str]:
    try:
        check_names(detect.suite)
    except ValueError as error:
        yield f"detect.suite: {error}"
    if detect.evasion.radii:
        try:
            check_ascending(detect.evasion.radii)
        except ValueError as error:
            yield f"detect.evasion.radii: {error}"


def _of_gate(cfg: RunParams) -> Iterator[str]:
    """Yield the floors and ceilings for radii at which nothing is measured: the gate would fail hours later."""
    gate, attacked = cfg.gate, _radii(cfg.attack.suite)
    limits = {"low": cfg.validate.min_side, "high": cfg.validate.max_side}
    warnings = expectations.warnings(cfg.data.form.modality.checks(**limits))
    yield from _missing("gate.allowed_warnings", gate.allowed_warnings, "warnings of the stage validate", warnings)
    for name in ("min_robust_accuracy", "min_robust_sensitivity", "min_robust_specificity"):
        yield from _missing(f"gate.{name}", getattr(gate, name), "L-infinity radii of attack.suite", attacked)
    floors = [radius for radius, floor in gate.min_subgroup_robust_accuracy.items() if floor]
    yield from _missing("gate.min_subgroup_robust_accuracy", floors, "L-infinity radii of attack.suite", attacked)
    detected = _radii(cfg.detect.suite)
    yield from _missing("gate.min_detector_auc", gate.min_detector_auc, "L-infinity radii of detect.suite", detected)
    evaded = cfg.detect.evasion.radii if cfg.detect.evasion.objectives else ()
    if cfg.train.defence == "randomised":  # see the stage detect
        yield from _missing("gate.max_evaded", gate.max_evaded, "radii with train.defence randomised", ())
    else:
        yield from _missing("gate.max_evaded", gate.max_evaded, "radii of detect.evasion", evaded)


def _of_pictures(cfg: RunParams) -> Iterator[str]:
    """Yield what too few attacked records, or too few pictures of the generator, can never meet."""
    attack = cfg.attack
    demands = demands_of(cfg.data, cfg.calibrate, cfg.gate, attacked=attack.records, seed=attack.seed)
    attacked = [need for need in demands.needs([*cfg.data.malignant, "other"]) if need.part == "attacked"]
    most = max(attacked, key=lambda need: need.count, default=None)
    if most and attack.records < most.count:
        yield f"attack.records: expected 0 (all) or at least {most.count} for {most.reason}, got {attack.records}"
    if cfg.data.source == "synthetic":
        yield from _of_generator(cfg, replace(demands, attacked=0))


def _of_generator(cfg: RunParams, demands: Demands) -> Iterator[str]:
    if not cfg.data.per_class:
        yield "data.per_class: expected at least 1 for the synthetic source, got 0"
        return
    if cfg.data.per_class > _MOST_GENERATED:
        yield f"data.per_class: expected at most {_MOST_GENERATED} for the synthetic source, got {cfg.data.per_class}"
        return
    rows = [(f"{label}/{index}", label) for label in cfg.data.generated for index in range(cfg.data.per_class)]
    frame = pd.DataFrame(rows, columns=["id", "label"]).assign(sha256=lambda frame: frame["id"])
    shares = {"test": cfg.split.test, "calibration": cfg.split.calibration}
    division = remedies.Division(frame, np.arange(len(frame)), shares, cfg.split.seed)
    try:
        counts = demands.counts(frame, division.assigned())
    except DataError as error:
        yield f"data.per_class {cfg.data.per_class}: {error}"
        return
    if short := remedies.shortage(demands, division, counts, cfg.data.per_class, available=math.inf):
        yield f"data.per_class {cfg.data.per_class}: {short.text('; ')}"


def _radii(suite: Iterable[AttackSpec]) -> list[StatedRadius]:
    return sorted({radius for spec in suite if spec.attack.norm == "linf" for radius in spec.radii})


def _missing(setting: str, asked: Iterable[Any], what: str, known: Sequence[Any]) -> Iterator[str]:
    if unknown := [one for one in asked if one not in known]:
        yield f"{setting}: expected {what}, {list(known)}, got {unknown}; change one of the two"


def main() -> None:
    """Run the stage on params.yaml."""
    run(load())


if __name__ == "__main__":
    stage(main)
