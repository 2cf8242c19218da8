"""Tabulates what a profile measured: one row for each profile, whatever its modality.

Reads   params.yaml, reports/ and models/release of a finished pipeline, data/splits/; the document, if it exists
Writes  docs/results/modalities.json: the row of ``--name`` is replaced, those of other names stay

The seconds of a request are those of decoding a file and answering it in this process, without the network: the median
over test records.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import results
from benchmarks.results import CellValue, Column, Estimate, Table, rate
from benchmarks.tables import markdown
from buckler import params
from buckler.data import manifest
from buckler.errors import BucklerError
from buckler.evaluation import reports
from buckler.evaluation.reports import SplitReport
from buckler.measurements.results import Cell, WorstCase
from buckler.release.evidence import Reports, read_reports
from buckler.serving.predictor import Predictor
from buckler.state import timings
from buckler.trust import keys
from pipelines.settings import DataParams
from pipelines.stage import stage

DOCUMENT = "modalities"
COMMAND = "python -m benchmarks.modalities"
REPORTS = Path("reports")
RELEASE = Path("models/release")
TEST = Path("data/splits/test.csv")
REQUESTS = 50
COLUMNS = (
    Column("profile", "profile"),
    Column("modality", "modality"),
    Column("data", "data"),
    Column("records", "records"),
    Column("subjects", "groups of one subject or record"),
    Column("clean", "clean accuracy", ".1%", "95 % interval"),
    Column("auc", "AUC", ".3f", "95 % interval"),
    Column("radii", "radii"),
    Column("fgsm", "FGSM, first radius", ".1%", "95 % interval"),
    Column("worst_first", "worst case, first radius", ".1%", "95 % interval"),
    Column("worst_second", "second radius", ".1%", "95 % interval"),
    Column("detector", "detector's AUC, weakest", ".3f"),
    Column("accepted", "accepted", ".1%", "95 % interval"),
    Column("minutes", "minutes of `dvc repro`", ".0f"),
    Column("request", "seconds a request", ".3f"),
)


def run(name: str, out: Path) -> None:
    """Write and print the table with a new row ``name``, the profile that this project has run."""
    data = params.load("data", DataParams)
    found = read_reports(REPORTS)
    split = reports.read(SplitReport, REPORTS)
    row = {
        "profile": name,
        "modality": data.modality,
        "data": _data_of(data),
        "records": sum(sum(parts.values()) for parts in split.counts.values()),
        "subjects": split.groups.all,
        **rates(found),
        "minutes": sum(each.seconds for each in timings.read(REPORTS).stages.values()) / 60,
        "request": _seconds_a_request(),
    }
    path = out / f"{DOCUMENT}.json"
    earlier = results.read(path) if path.exists() else None
    others = [each for each in earlier.tables["profiles"].rows if each["profile"] != name] if earlier else []
    attacked = found.robustness
    origin = {"model": attacked.model.digest, "data": attacked.data.version, "attacked": attacked.data.images}
    settings: dict[str, Any] = {**(earlier.settings if earlier else {}), name: origin}
    table = Table(COLUMNS, (*others, row))
    command = f"{COMMAND} --name {name}"
    results.new(DOCUMENT, command, {"profiles": table}, settings=settings, remark=_remark(settings)).write(out)
    print(markdown(table))


def rates(found: Reports) -> dict[str, CellValue]:
    """Return the cells of a row that come from the reports of one evaluation."""
    evaluation, robustness = found.evaluation, found.robustness
    first, *further = robustness.worst_case
    weakest = [row.auc.value for row in found.detector.worst if row.auc]
    interval = evaluation.roc_auc_interval or (None, None)
    return {
        "clean": rate(evaluation.clean_accuracy),
        "auc": Estimate(evaluation.roc_auc, *interval),
        "radii": ", ".join(row.radius for row in robustness.worst_case[:2]),
        "fgsm": _fgsm(robustness.cells, first),
        "worst_first": rate(first.robust_accuracy),
        "worst_second": rate(further[0].robust_accuracy) if further else None,
        "detector": min(weakest, default=None),
        "accepted": _accepted(found),
    }


def _fgsm(cells: Sequence[Cell], first: WorstCase) -> Estimate | None:
    here = [cell for cell in cells if cell.attack == "fgsm" and cell.radius == first.radius]
    return rate(here[0].robust_accuracy) if here else None


def _accepted(found: Reports) -> Estimate | None:
    """Return the share of the clean test records with the decision ``accept``."""
    reviews = found.decisions.with_limit.reviews if found.decisions else None
    return Estimate(1 - reviews.value, 1 - reviews.high, 1 - reviews.low) if reviews else None


def _data_of(data: DataParams) -> str:
    return "generator" if data.source == "synthetic" else Path(data.path).name


def _seconds_a_request() -> float:
    predictor = Predictor.load(RELEASE, keys.load_public_keys())
    predictor.warm_up()
    seconds = []
    for path in manifest.read(TEST)["path"][:REQUESTS]:
        content = Path(path).read_bytes()
        began = time.perf_counter()
        predictor(predictor.form.modality.receive(content, predictor.form.shape).values)
        seconds.append(time.perf_counter() - began)
    if not seconds:
        raise BucklerError(f"expected test records in {TEST}, got none; run `dvc repro`")
    return median(seconds)


def _remark(settings: dict[str, Any]) -> str:
    counts = "; ".join(f"{name}: {origin['attacked']}" for name, origin in settings.items())
    return f"Attacked test records: {counts}."


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="name of the profile in the table")
    results.add_options(parser)
    given = parser.parse_args()
    run(given.name, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
