"""Stage ``validate``: checks the manifest and its pictures against the expectations.

Reads   data/manifest.csv and the pictures it lists
Writes  data/validated.csv           the rows that later stages use
        data/quarantine/<id>         files that do not decode
        data/quarantine/reasons.csv  id, code, reason
        reports/validation.json      every expectation with its result
        data/validation_pages/       the same as Great Expectations' pages, from which the stage report makes Data Docs

A file that does not decode is excluded, and so is a repeated file of the same class. What makes later results wrong or
impossible, such as identical files in two classes, stops the pipeline. Other faults are warnings; the gate judges them.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from buckler import params
from buckler.data import expectations, manifest
from buckler.errors import DataError, UnusableInputError
from buckler.evaluation import reports, subgroups
from buckler.evaluation.reports import ValidationReport
from buckler.measurements.results import DataVersion, Expectation, Quarantined, Repeated
from buckler.modality.base import Modality
from buckler.params import Real
from buckler.state import documents
from pipelines.settings import DataParams
from pipelines.stage import stage

MANIFEST = Path("data/manifest.csv")
VALIDATED = Path("data/validated.csv")
QUARANTINE = Path("data/quarantine")
REPORTS = Path("reports")
PAGES = Path("data/validation_pages")
Faults = Mapping[str, UnusableInputError]  # id -> why the file does not decode


def run(limits: expectations.ValidateParams, data: DataParams, bands: subgroups.Bands) -> None:
    """Validate the manifest, quarantine undecodable files, write the remaining rows and the reports, print warnings.

    Args:
        limits: Section ``validate`` of params.yaml.
        data: Section ``data`` of params.yaml.
        bands: ``attack.subgroups`` of params.yaml: columns that the manifest must have.

    Raises:
        DataError: A critical expectation is violated: the reports and the quarantine are written first. Or the manifest
            lacks a column of ``bands``, or has values there that are no numbers.
    """
    VALIDATED.unlink(missing_ok=True)  # a failure must not leave the list of an earlier run
    frame = manifest.read(MANIFEST)
    subgroups.groups({str(name): list(map(str, frame[name])) for name in frame}, bands)  # as the stage attack will
    modality = data.form.modality
    faults = _faults(frame, modality)
    _quarantine(frame, faults)
    found = judge(frame, faults, limits, data.required(manifest.labels(frame)), modality)
    _write_pages(found.outcome.pages())
    reports.write(found.report, REPORTS)
    if critical := found.outcome.violated("critical"):
        raise DataError("\n  - ".join(["the pictures cannot be used, see reports/validation.json", *lines(critical)]))
    for line in lines(found.outcome.violated("warning")):
        print(f"warning: {line}")
    manifest.write(found.kept, VALIDATED)
    left_out = f"{len(faults)} in quarantine, {len(found.report.repeated)} repeated files left out"
    print(f"{len(found.kept)} pictures validated, {left_out}")


@dataclass(frozen=True, slots=True)
class Validated:
    """The rows that later stages use, ``kept``, the ``outcome`` of the expectations, and the ``report``."""

    kept: pd.DataFrame
    outcome: expectations.ValidationResult
    report: ValidationReport


def judge(
    frame: pd.DataFrame,
    faults: Faults,
    limits: expectations.ValidateParams,
    malignant: Sequence[str],
    modality: Modality,
) -> Validated:
    """Check the manifest ``frame``, whose ``faults`` do not decode, against the expectations."""
    decodable = frame[~frame["id"].isin(faults)]
    repeated = decodable.duplicated(["sha256", "label"])
    kept = decodable[~repeated]
    problems = [faults[name].code if name in faults else "none" for name in frame["id"]]
    outcome = expectations.check(
        frame, problems, kept, limits, malignant, modality.checks(low=limits.min_side, high=limits.max_side)
    )
    return Validated(kept, outcome, _report(frame, kept, faults, decodable[repeated], outcome))


def _faults(frame: pd.DataFrame, modality: Modality) -> Faults:
    faults: dict[str, UnusableInputError] = {}
    rows = zip(frame["id"], manifest.paths(frame), strict=True)
    for name, path in tqdm(rows, desc="decode", unit=modality.one, total=len(frame)):
        try:
            modality.inspect(path)
        except UnusableInputError as error:
            faults[name] = error
    return faults


def _quarantine(frame: pd.DataFrame, faults: Faults) -> None:
    """Copy undecodable files; the originals are outputs of the stage before."""
    shutil.rmtree(QUARANTINE, ignore_errors=True)
    QUARANTINE.mkdir(parents=True)
    paths = dict(zip(frame["id"], manifest.paths(frame), strict=True))
    for name in faults:
        (QUARANTINE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[name], QUARANTINE / name)
    rows = [(name, str(fault.code), str(fault)) for name, fault in sorted(faults.items())]
    reasons = pd.DataFrame(rows, columns=["id", "code", "reason"]).map(documents.to_cell)
    reasons.to_csv(QUARANTINE / "reasons.csv", index=False, lineterminator="\n")


def _write_pages(pages: Mapping[str, str]) -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    for name, page in pages.items():
        (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / name).write_text(page, encoding="utf-8")


def lines(violated: Sequence[Expectation]) -> list[str]:
    """Return one line for each violated expectation."""
    return [f"{one.name}: expected {one.expected}; seen: {one.seen}" for one in violated]


def _report(
    frame: pd.DataFrame,
    kept: pd.DataFrame,
    faults: Faults,
    repeated: pd.DataFrame,
    outcome: expectations.ValidationResult,
) -> ValidationReport:
    first = dict(zip(zip(kept["sha256"], kept["label"], strict=True), kept["id"], strict=True))
    copies = zip(repeated["id"], repeated["sha256"], repeated["label"], strict=True)
    return ValidationReport(
        passed=not outcome.violated("critical"),
        data=DataVersion(manifest.version(kept), len(kept)),
        ingested=len(frame),
        classes={label: int((kept["label"] == label).sum()) for label in manifest.labels(frame)},
        quarantined=tuple(Quarantined(name, faults[name].code) for name in sorted(faults)),
        repeated=tuple(Repeated(name, first[(digest, label)]) for name, digest, label in copies),
        expectations=outcome.results,
    )


def main() -> None:
    """Run the stage on params.yaml."""
    limits, data = params.load("validate", expectations.ValidateParams), params.load("data", DataParams)
    run(limits, data, params.value("attack", "subgroups", Mapping[str, tuple[Real, ...]]))


if __name__ == "__main__":
    stage(main)
