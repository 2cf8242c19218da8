"""Stage ``validate``: checks the manifest and its pictures against the expectations.

Reads   data/manifest.csv and the pictures it lists
Writes  data/validated.csv           the rows that later stages use
        data/quarantine/<id>         files that do not decode
        data/quarantine/reasons.csv  id, code, reason
        reports/validation.json      every expectation with its result
        reports/data_docs/           the same as Great Expectations pages, readable offline

A file that does not decode is excluded, and so is a repeated file of the same class. Identical files in two classes
contradict each other and stop the pipeline.
"""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from buckler import params
from buckler.data import expectations, manifest
from buckler.errors import DataError, UnusableImageError
from buckler.evaluation import subgroups
from buckler.modality.picture import images
from buckler.reporting import data_docs
from buckler.state import documents
from pipelines.settings import DataParams
from pipelines.stage import stage

MANIFEST = Path("data/manifest.csv")
VALIDATED = Path("data/validated.csv")
QUARANTINE = Path("data/quarantine")
REPORT = Path("reports/validation.json")
DATA_DOCS = Path("reports/data_docs")


def run(limits: expectations.ValidateParams, data: DataParams, bands: subgroups.Bands) -> None:
    """Validate the manifest, quarantine undecodable files, write the remaining rows and the reports.

    Args:
        limits: Section ``validate`` of params.yaml.
        data: Section ``data`` of params.yaml.
        bands: ``attack.subgroups`` of params.yaml: columns that the manifest must have.

    Raises:
        DataError: A hard expectation is violated: the reports and the quarantine are written first. Or the manifest
            lacks a column of ``bands``, or has values there that are no numbers.
    """
    VALIDATED.unlink(missing_ok=True)  # a failure must not leave the list of an earlier run
    frame = manifest.read(MANIFEST)
    subgroups.groups({str(name): list(map(str, frame[name])) for name in frame}, bands)  # as the stage attack will
    faults = _faults(frame)
    _quarantine(frame, faults)
    decodable = frame[~frame["id"].isin(faults)]
    repeated = decodable.duplicated(["sha256", "label"])
    kept = decodable[~repeated]
    problems = [faults[name].code if name in faults else "none" for name in frame["id"]]
    outcome = expectations.check(frame, problems, kept, limits, data.malignant)
    data_docs.write(outcome, DATA_DOCS)
    documents.write_json(REPORT, _summary(frame, kept, faults, decodable[repeated], outcome))
    if outcome.violated:
        lines = [f"{one.name}: expected {one.expected}; seen: {one.seen}" for one in outcome.violated]
        raise DataError("\n  - ".join([f"the pictures violate hard expectations (see {REPORT}):", *lines]))
    manifest.write(kept, VALIDATED)
    left_out = f"{len(faults)} in quarantine, {int(repeated.sum())} repeated files left out"
    print(f"{len(kept)} pictures validated, {left_out}")


def _faults(frame: pd.DataFrame) -> dict[str, UnusableImageError]:
    """Decoding errors by id."""
    faults = {}
    rows = zip(frame["id"], manifest.paths(frame), strict=True)
    for name, path in tqdm(rows, desc="decode", unit="picture", total=len(frame)):
        try:
            images.inspect(path)
        except UnusableImageError as error:
            faults[name] = error
    return faults


def _quarantine(frame: pd.DataFrame, faults: dict[str, UnusableImageError]) -> None:
    """Copy undecodable files; the originals are outputs of the stage before."""
    shutil.rmtree(QUARANTINE, ignore_errors=True)
    QUARANTINE.mkdir(parents=True)
    paths = dict(zip(frame["id"], manifest.paths(frame), strict=True))
    for name in faults:
        (QUARANTINE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[name], QUARANTINE / name)
    rows = [(name, fault.code, str(fault)) for name, fault in sorted(faults.items())]
    reasons = pd.DataFrame(rows, columns=["id", "code", "reason"])
    reasons.to_csv(QUARANTINE / "reasons.csv", index=False, lineterminator="\n")


def _summary(
    frame: pd.DataFrame,
    kept: pd.DataFrame,
    faults: dict[str, UnusableImageError],
    repeated: pd.DataFrame,
    outcome: expectations.ValidationResult,
) -> dict[str, Any]:
    first = {(row.sha256, row.label): row.id for row in kept.itertuples(index=False)}
    return {
        "schema": 1,
        "passed": not outcome.violated,
        "data": {"version": manifest.version(kept), "images": len(kept)},
        "ingested": len(frame),
        "classes": {str(label): int(count) for label, count in kept["label"].value_counts().sort_index().items()},
        "quarantined": [{"id": name, "code": faults[name].code} for name in sorted(faults)],
        "repeated": [
            {"id": row.id, "same_as": first[(row.sha256, row.label)]} for row in repeated.itertuples(index=False)
        ],
        "expectations": outcome.results,
    }


def main() -> None:
    """Run the stage on params.yaml."""
    limits, data = params.load("validate", expectations.ValidateParams), params.load("data", DataParams)
    run(limits, data, params.read()["attack"]["subgroups"])  # checked by the stage preflight


if __name__ == "__main__":
    stage(main)
