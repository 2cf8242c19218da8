"""Stage ``evaluate``: accuracy on clean pictures, in the runtime that serves.

Reads   models/classifier/, models/runtime/, data/splits/{calibration,test}.csv and the pictures they list, data/masks/
Writes  reports/evaluation.json, reports/plots/predictions.csv, reports/curves/roc.csv,
        data/features/clean.npz: logits and detector features of the calibration and the test pictures
"""

from dataclasses import fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import params
from buckler.compute.machine import instruction_set
from buckler.data import masks, pictures
from buckler.evaluation import accuracy, crafter_and_scorer, pointing, reports
from buckler.evaluation.reports import EvaluationReport, MeasuredModel
from buckler.measurements.results import DataVersion
from buckler.models import checkpoint
from buckler.models.features import head_of
from buckler.state import documents
from buckler.trust import digests
from pipelines.settings import EvaluateParams
from pipelines.stage import stage

SPLITS = Path("data/splits")
CLASSIFIER = Path("models/classifier")
RUNTIME = Path("models/runtime")
REPORTS = Path("reports")
PREDICTIONS = REPORTS / "plots/predictions.csv"
ROC = REPORTS / "curves/roc.csv"
CLEAN = Path("data/features/clean.npz")


def run(cfg: EvaluateParams) -> None:
    """Evaluate on the test split; store logits and features of the same passes for later stages."""
    info = checkpoint.load_info(CLASSIFIER)
    calibration, test = (
        pictures.load(SPLITS / f"{name}.csv", info.labels, info.form, description=f"decode {name}")
        for name in ("calibration", "test")
    )
    network = checkpoint.load_network(CLASSIFIER)
    _, scorer = crafter_and_scorer.choose(network, info, model=CLASSIFIER, batch_size=8, seed=0, runtime=RUNTIME)
    # A randomised network answers with the mean of many draws, whose maps differ: its heat maps are not checked.
    head = head_of(network) if info.defence != "randomised" else None
    lesions = masks.load(test.ids) if head else None
    with_maps = {"maps": True} if lesions else {}
    with tqdm(
        total=len(calibration.ids) + len(test.ids), unit="picture", desc=f"evaluate in {scorer.precision}"
    ) as bar:
        passes = {
            "calibration": scorer.forward(calibration.images, bar.update),
            "test": scorer.forward(test.images, bar.update, **with_maps),
        }
    CLEAN.parent.mkdir(parents=True, exist_ok=True)
    stored = ("logits", "features")
    np.savez(CLEAN, **{f"{split}_{name}": getattr(p, name) for split, p in passes.items() for name in stored})

    logits = passes["test"].logits
    result = accuracy.evaluate(
        logits, test.truth, labels=info.labels, dangerous=info.dangerous, bins=cfg.calibration_bins
    )
    report = EvaluationReport(
        model=MeasuredModel(
            digests.directory_digest(CLASSIFIER),
            digests.directory_digest(RUNTIME),
            initial_weights=info.initial_weights,
        ),
        data=DataVersion(info.data_version, len(test.ids)),
        labels=info.labels,
        scored_in=scorer.precision,
        computed_on=instruction_set(),
        heat_map=pointing.measure(passes["test"], head, lesions, info.labels, info.form.modality)
        if head and lesions
        else None,
        findings=accuracy.finding_rows(logits, test.truth, info.labels, info.findings),
        **{field.name: getattr(result, field.name) for field in fields(result)},
    )
    reports.write(report, REPORTS)
    guesses = [info.labels[i] for i in logits.argmax(axis=1)]
    rows = zip(test.ids, (info.labels[i] for i in test.truth), guesses, strict=True)
    columns = ("id", "true", "predicted")
    documents.write_csv(PREDICTIONS, [dict(zip(columns, row, strict=True)) for row in rows])
    curve = accuracy.roc_points(logits, test.truth, info.labels, info.dangerous)
    name = ", ".join(info.dangerous or info.labels[-1:])
    documents.write_csv(ROC, [{"label": name, "fpr": x, "tpr": y} for x, y in zip(*curve, strict=True)])


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("evaluate", EvaluateParams))


if __name__ == "__main__":
    stage(main)
