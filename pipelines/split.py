"""Stage ``split``: splits into train, calibration and test; pictures of one lesion or patient stay in one split.

Reads   data/validated.csv and the pictures it lists
Writes  data/splits/{train,calibration,test}.csv
        reports/split.json   counts, groups and near-duplicate pairs
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field
from tqdm import tqdm

from buckler import params
from buckler.data import manifest, pictures, splits
from buckler.data.expectations import ValidateParams
from buckler.errors import DataError, UnusableInputError
from buckler.evaluation import reports
from buckler.evaluation.reports import SplitReport
from buckler.measurements.results import DataVersion
from buckler.measurements.split import GroupSizes, NearDuplicates, PictureGroup
from buckler.modality.base import Modality, Pair
from buckler.params import Between, Count, CountOrAll, Real, Seed
from buckler.release import remedies
from buckler.release.policy import Policy
from buckler.release.requirements import Demands
from pipelines.settings import CalibrateParams, DataParams
from pipelines.stage import stage

VALIDATED = Path("data/validated.csv")
OUT = Path("data/splits")
REPORTS = Path("reports")
_LARGEST = 10  # groups listed in the report


@dataclass(frozen=True, slots=True)
class SplitParams:
    """Section ``split`` of params.yaml."""

    test: Between
    calibration: Between
    near_duplicate_bits: Annotated[Count, Field(ge=2, le=32)]
    near_duplicate_correlation: Annotated[Real, Field(ge=0.5, le=0.99)]
    seed: Seed

    def __post_init__(self) -> None:
        """Reject shares that leave nothing to train on."""
        if self.test + self.calibration >= 1:
            raise ValueError(f"expected test and calibration below 1 together, got {self.test} and {self.calibration}")


def demands_of(
    data: DataParams,
    calibrate: CalibrateParams,
    gate: Policy,
    *,
    attacked: int,
    seed: int,
    max_imbalance: float = math.inf,
) -> Demands:
    """Return the settings that need pictures.

    Args:
        data, calibrate, gate: Sections of params.yaml.
        attacked, seed: Of section ``attack``.
        max_imbalance: Of section ``validate``.
    """
    return Demands(
        gate,
        data.dangerous,
        calibrate.max_fpr,
        calibrate.confidence,
        calibrate.min_sensitivity,
        attacked,
        seed,
        max_imbalance,
    )


def run(cfg: SplitParams, data: DataParams, demands: Demands) -> None:
    """Write the three manifests and the report.

    Raises:
        DataError: The shares leave nothing to train on, a class has too few groups to be in every split, or a split has
            too few pictures to calibrate the input checks or to judge the floors of the gate.
    """
    frame = manifest.read(VALIDATED)
    modality = data.form.modality
    bar = tqdm(manifest.paths(frame), desc=f"compare {modality.many}", unit=modality.one)
    pairs = modality.near_duplicates(
        [_appearance(modality, path) for path in bar],
        max_bits=cfg.near_duplicate_bits,
        min_correlation=cfg.near_duplicate_correlation,
    )
    groups = splits.group(frame, pairs)
    division = remedies.Division(frame, groups, {"test": cfg.test, "calibration": cfg.calibration}, cfg.seed)
    assigned = division.assigned()
    counts = demands.counts(frame, assigned)
    available = math.inf if data.source == "synthetic" else 0
    short = remedies.shortage(demands, division, counts, data.per_class, available=available)
    if short:
        raise DataError(short.text("\n  "))
    for name in pictures.SPLITS:
        manifest.write(frame[assigned == name].sort_values("id"), OUT / f"{name}.csv")
    reports.write(_report(frame, pairs, groups, assigned), REPORTS)


def _appearance(modality: Modality, path: Path) -> Any:
    try:
        return modality.appearance(path)
    except UnusableInputError as error:
        raise error.at(path) from error


def _report(frame: pd.DataFrame, pairs: list[Pair], groups: np.ndarray, assigned: np.ndarray) -> SplitReport:
    ids, label = frame["id"].to_numpy(), frame["label"].to_numpy()
    names, sizes = np.unique(groups, return_counts=True)
    largest = sorted((name for name, size in zip(names, sizes, strict=True) if size > 1), key=_by(groups, ids))
    near = [
        NearDuplicates(
            ids=(min(ids[pair.first], ids[pair.second]), max(ids[pair.first], ids[pair.second])),
            bits=pair.bits,
            correlation=round(pair.correlation, 3),
            same_label=bool(label[pair.first] == label[pair.second]),
        )
        for pair in pairs
    ]
    return SplitReport(
        data=DataVersion(manifest.version(frame), len(frame)),
        counts={
            one: {name: int(((label == one) & (assigned == name)).sum()) for name in pictures.SPLITS}
            for one in manifest.labels(frame)
        },
        groups=GroupSizes(all=len(names), of_several=int((sizes > 1).sum()), largest=int(sizes.max())),
        largest_groups=tuple(
            PictureGroup(str(assigned[groups == name][0]), tuple(sorted(ids[groups == name])))
            for name in largest[:_LARGEST]
        ),
        near_duplicates=tuple(sorted(near, key=lambda pair: pair.ids)),
    )


def _by(groups: np.ndarray, ids: np.ndarray) -> Any:
    return lambda name: (-int((groups == name).sum()), min(ids[groups == name]))


def main() -> None:
    """Run the stage on params.yaml."""
    data = params.load("data", DataParams)
    calibrate, gate = params.load("calibrate", CalibrateParams), params.load("gate", Policy)
    demands = demands_of(
        data,
        calibrate,
        gate,
        attacked=params.value("attack", "records", CountOrAll),
        seed=params.value("attack", "seed", Seed),
        max_imbalance=params.load("validate", ValidateParams).max_imbalance,
    )
    run(params.load("split", SplitParams), data, demands)


if __name__ == "__main__":
    stage(main)
