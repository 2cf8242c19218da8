"""Stage ``train``: the head on cached features, then base and head joined into one classifier.

Reads   data/features/base/*.npy, data/splits/*.csv
Writes  models/classifier/{classifier.keras,model.json}, reports/training/history.csv, reports/plots/training.png
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import params
from buckler.data import manifest, pictures
from buckler.evaluation import plots, report
from buckler.models import checkpoint, vgg
from buckler.training.loop import Schedule, train_head
from pipelines.settings import DataParams, TrainParams
from pipelines.stage import stage

SPLITS = Path("data/splits")
FEATURES = Path("data/features/base")
CLASSIFIER = Path("models/classifier")
REPORTS = Path("reports")


def run(cfg: TrainParams, data: DataParams) -> None:
    """Train on the cached features and save the classifier."""
    labels = pictures.labels_of(SPLITS / "train.csv")
    truth, validation_truth = (_indices(SPLITS / f"{name}.csv", labels) for name in ("train", "calibration"))
    head = vgg.Head(cfg.hidden, cfg.dropout)
    with tqdm(total=cfg.epochs, unit="epoch", desc="train") as bar:

        def progress(epoch: int, row: dict[str, float]) -> None:
            bar.update()
            bar.set_postfix(accuracy=f"{row['accuracy']:.3f}", validation=f"{row['val_accuracy']:.3f}")

        trained, history = train_head(
            np.load(FEATURES / "train.npy", mmap_mode="r"),
            truth,
            (np.load(FEATURES / "validation.npy"), validation_truth),
            classes=len(labels),
            head=head,
            schedule=Schedule(cfg.epochs, cfg.batch_size, cfg.learning_rate, cfg.seed),
            progress=progress,
        )
    network = vgg.join(vgg.build_base(data.image_size, cfg.weights, seed=cfg.seed), trained)
    info = checkpoint.ModelInfo(
        labels=labels,
        malignant=tuple(label for label in labels if label in data.malignant),
        image_size=data.image_size,
        data_version=pictures.version(SPLITS),
    )
    checkpoint.save(network, info, CLASSIFIER)
    report.write_csv(REPORTS / "training/history.csv", history)
    plots.training_curves(history, REPORTS / "plots/training.png")


def _indices(split: Path, labels: tuple[str, ...]) -> np.ndarray:
    return np.array([labels.index(label) for label in manifest.read(split)["label"]], np.int64)


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("train", TrainParams), params.load("data", DataParams))


if __name__ == "__main__":
    stage(main)
