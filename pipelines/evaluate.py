"""Stage ``evaluate``: accuracy on clean pictures, in the runtime that serves.

Reads   models/classifier/, models/runtime/, data/splits/{calibration,test}.csv and the pictures they list,
        reports/training/history.csv
Writes  reports/evaluation.json, reports/plots/{training,confusion,roc,reliability}.png, reports/plots/predictions.csv,
        data/features/clean.npz: logits and detector features of the calibration and the test pictures
"""

import csv
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import params
from buckler.data import pictures
from buckler.evaluation import accuracy, crafter_and_scorer
from buckler.models import checkpoint
from buckler.reporting import plots
from buckler.state import documents
from buckler.trust import digests
from pipelines.stage import stage

SPLITS = Path("data/splits")
CLASSIFIER = Path("models/classifier")
RUNTIME = Path("models/runtime")
REPORTS = Path("reports")
CLEAN = Path("data/features/clean.npz")


@dataclass(frozen=True, slots=True)
class EvaluateParams:
    """Section ``evaluate`` of params.yaml."""

    calibration_bins: int


def run(cfg: EvaluateParams) -> None:
    """Evaluate on the test split; store logits and features of the same passes for later stages."""
    info = checkpoint.load_info(CLASSIFIER)
    calibration, test = (
        pictures.load(SPLITS / f"{name}.csv", info.labels, size=info.image_size, description=f"decode {name}")
        for name in ("calibration", "test")
    )
    network = checkpoint.load_network(CLASSIFIER)
    _, scorer = crafter_and_scorer.choose(network, info, batch_size=8, seed=0, runtime=RUNTIME)
    began = time.perf_counter()
    with tqdm(
        total=len(calibration.ids) + len(test.ids), unit="picture", desc=f"evaluate in {scorer.precision}"
    ) as bar:
        passes = {
            "calibration": scorer.forward(calibration.images, bar.update),
            "test": scorer.forward(test.images, bar.update),
        }
    seconds = time.perf_counter() - began
    CLEAN.parent.mkdir(parents=True, exist_ok=True)
    np.savez(CLEAN, **{f"{split}_{k}": v for split, p in passes.items() for k, v in asdict(p).items()})

    logits = passes["test"].logits
    result = accuracy.evaluate(
        logits, test.truth, labels=info.labels, dangerous=info.dangerous, bins=cfg.calibration_bins
    )
    documents.write_json(
        REPORTS / "evaluation.json",
        {
            "schema": 1,
            "model": {
                "digest": digests.directory_digest(CLASSIFIER),
                "runtime": digests.directory_digest(RUNTIME),
                "scored_in": scorer.precision,
            },
            "data": {"version": info.data_version, "images": len(test.ids)},
            "labels": info.labels,
            **asdict(result),
            "seconds": round(seconds, 1),
        },
    )
    _draw(result, logits, test, info)
    # Here and not in the stage `train`: a change to a plot must not train for an hour again.
    plots.training_curves(_history(REPORTS / "training/history.csv"), REPORTS / "plots/training.png")


def _history(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _draw(
    result: accuracy.CleanEvaluation,
    logits: np.ndarray,
    test: pictures.Pictures,
    info: checkpoint.ModelInfo,
) -> None:
    guesses = [info.labels[i] for i in logits.argmax(axis=1)]
    rows = zip(test.ids, (info.labels[i] for i in test.truth), guesses, strict=True)
    documents.write_csv(
        REPORTS / "plots/predictions.csv",
        [{"id": name, "true": true, "predicted": guess} for name, true, guess in rows],
    )
    curve = accuracy.roc_points(logits, test.truth, info.labels, info.dangerous)
    value = result.clean_accuracy.value
    plots.confusion(result.confusion, info.labels, f"Clean accuracy {value:.3f}", REPORTS / "plots/confusion.png")
    name = ", ".join(info.dangerous or info.labels[-1:])
    plots.roc({name: curve}, f"ROC AUC {result.roc_auc:.3f}", REPORTS / "plots/roc.png")
    bins = [(b.confidence, b.accuracy, b.pictures) for b in result.reliability]
    plots.reliability(bins, result.calibration_error, REPORTS / "plots/reliability.png")


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("evaluate", EvaluateParams))


if __name__ == "__main__":
    stage(main)
