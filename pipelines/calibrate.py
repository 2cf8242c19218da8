"""Stage ``calibrate``: fits the adversarial-input detector on clean pictures, draws its line, judges it.

Reads   data/features/training.npy, data/splits/*.csv, data/features/{clean,attacked}.npz
Writes  models/detector/{detector.npz,detector.json}, reports/detector.json, reports/plots/detector_roc.png
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from buckler import params
from buckler.data import manifest
from buckler.detection.detector import Calibrated, Detector
from buckler.detection.threshold import threshold_at
from buckler.evaluation import plots, report
from buckler.evaluation.statistics import wilson
from pipelines.stage import stage

SPLITS = Path("data/splits")
FEATURES = Path("data/features")
DETECTOR = Path("models/detector")
REPORTS = Path("reports")
FPRS = (0.01, 0.05)


@dataclass(frozen=True, slots=True)
class CalibrateParams:
    """Section ``calibrate`` of params.yaml."""

    max_fpr: float
    min_confidence: float


def run(cfg: CalibrateParams) -> None:
    """Fit, set the threshold, and report how often attacked and clean test pictures are flagged."""
    labels = manifest.read(SPLITS / "train.csv")["label"]
    truth = np.unique(np.asarray(labels, str), return_inverse=True)[1]
    detector = Detector.fit(np.load(FEATURES / "training.npy"), truth)
    with np.load(FEATURES / "clean.npz", allow_pickle=False) as arrays:
        calibration, test = (detector.score(arrays[f"{split}_features"]) for split in ("calibration", "test"))
    calibrated = Calibrated(detector, threshold_at(calibration, cfg.max_fpr), cfg.max_fpr, cfg.min_confidence)
    calibrated.save(DETECTOR)

    with np.load(FEATURES / "attacked.npz", allow_pickle=False) as arrays:
        scores = {name: detector.score(arrays[name]) for name in arrays.files if name != "ids"}
    curves = {f"{name.replace('@', ' ')}/255": _curve(test, attacked) for name, attacked in scores.items()}
    flagged = int((test > calibrated.threshold).sum())
    report.write_json(
        REPORTS / "detector.json",
        {
            "schema": 1,
            "threshold": calibrated.threshold,
            "max_fpr": cfg.max_fpr,
            "clean_fpr": wilson(flagged, len(test)),
            "attacks": [_row(name, test, scores[name], calibrated.threshold) for name in scores],
        },
    )
    plots.roc(curves, "Detector: attacked against clean test pictures", REPORTS / "plots/detector_roc.png")


def _row(name: str, clean: np.ndarray, attacked: np.ndarray, threshold: float) -> dict[str, Any]:
    attack, _, epsilon_255 = name.partition("@")
    false_positive, true_positive = _curve(clean, attacked)
    at = {f"{f:.2f}": float(true_positive[np.searchsorted(false_positive, f, side="right") - 1]) for f in FPRS}
    count, flagged = len(attacked), wilson(int((attacked > threshold).sum()), len(attacked))
    return {
        "attack": attack,
        "epsilon_255": int(epsilon_255),
        "auc": float(roc_auc_score(_sides(clean, attacked), np.concatenate([clean, attacked]))),
        "tpr_at_fpr": at,
        "tpr_at_fpr_interval": {fpr: wilson(round(tpr * count), count).interval for fpr, tpr in at.items()},
        "flagged": flagged.value,
        "flagged_interval": flagged.interval,
        "adaptive": False,
    }


def _curve(clean: np.ndarray, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    false_positive, true_positive, _ = roc_curve(
        _sides(clean, attacked), np.concatenate([clean, attacked]), drop_intermediate=False
    )
    return false_positive, true_positive


def _sides(clean: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    return np.repeat([0, 1], [len(clean), len(attacked)])


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("calibrate", CalibrateParams))


if __name__ == "__main__":
    stage(main)
