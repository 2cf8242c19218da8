"""Stage ``calibrate``: fits the input checks and sets their thresholds.

Reads   models/classifier/, models/runtime/, data/splits/train.csv and its pictures, data/splits/calibration.csv,
        data/features/clean.npz
Writes  models/detector/{detector.npz,detector.json}

The detector is fitted on training pictures: clean, with noise, recompressed, and after one FGSM step. All thresholds
and the temperature are set on clean calibration pictures only.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import params
from buckler.attacks.ball import on_grid
from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM
from buckler.data import pictures
from buckler.detection.adversarial import AdversarialDetector
from buckler.detection.danger import danger_limit, dangerous_needed, harmless_scores
from buckler.detection.out_of_distribution import OutOfDistributionDetector
from buckler.detection.quality import QualityLimits
from buckler.detection.screening import Screening
from buckler.detection.temperature import fit_temperature
from buckler.detection.threshold import threshold_at
from buckler.evaluation import crafter_and_scorer
from buckler.modality.base import Images, Labels, Modality
from buckler.models import checkpoint
from buckler.models.forward import Forward, Logits, probabilities
from buckler.models.gradients import GradientClassifier
from buckler.models.networks import table
from pipelines.settings import CalibrateParams
from pipelines.stage import stage

SPLITS = Path("data/splits")
CLASSIFIER = Path("models/classifier")
RUNTIME = Path("models/runtime")
CLEAN = Path("data/features/clean.npz")
DETECTOR = Path("models/detector")


def run(cfg: CalibrateParams) -> None:
    """Fit on training pictures; set the thresholds on calibration pictures."""
    info = checkpoint.load_info(CLASSIFIER)
    training = pictures.load(SPLITS / "train.csv", info.labels, info.form, description="decode train")
    network = checkpoint.load_network(CLASSIFIER)
    crafter, scorer = crafter_and_scorer.choose(
        network, info, model=CLASSIFIER, batch_size=cfg.batch_size, seed=cfg.seed, runtime=RUNTIME
    )
    shown = training.subset(cfg.records, cfg.seed)
    modality = info.form.modality
    total = len(training.ids) + len(shown.ids) * (1 + len(modality.fitting_changes) + len(cfg.radii))
    with tqdm(total=total, unit="picture", desc=f"fit the detector in {scorer.precision}") as bar:

        def ask(images: Images) -> Forward:
            return scorer.forward(images, bar.update)

        clean = ask(training.images)
        unattacked = [ask(images) for images in _unattacked(shown, modality, cfg.seed)]
        attacked = [ask(images) for images in _attacked(crafter, shown, modality, cfg)]
    layout = table.layout_of(network)
    clouds = OutOfDistributionDetector.fit(clean.features, training.truth, read=layout.cloud_columns)
    with np.load(CLEAN, allow_pickle=False) as arrays:
        calibration = Forward(arrays["calibration_logits"], arrays["calibration_features"])
    columns = {"read": layout.trace_columns, "probed": layout.probe_columns}
    detector = AdversarialDetector.fit(clean, unattacked, attacked, **columns).levelled(calibration)
    scores, strangeness = detector.score(calibration), clouds.score(calibration.features)
    truth = pictures.truth_of(SPLITS / "calibration.csv", info.labels)
    dangerous = tuple(place for place, label in enumerate(info.labels) if label in info.dangerous)
    temperature = fit_temperature(calibration.logits, truth)
    Screening(
        detector,
        clouds,
        QualityLimits.fit(training.images, modality),
        threshold=threshold_at(scores, cfg.max_fpr, cfg.confidence),
        max_fpr=cfg.max_fpr,
        confidence=cfg.confidence,
        # Strangers are several times as far from the training pictures as any clean picture.
        strangeness=cfg.stranger_margin * float(strangeness.max()),
        min_confidence=cfg.min_confidence,
        temperature=temperature,
        dangerous=dangerous,
        min_sensitivity=cfg.min_sensitivity,
        modality=info.modality,
        danger_limit=_danger_limit(cfg, calibration.logits, truth, temperature, dangerous),
    ).save(DETECTOR)


def _danger_limit(
    cfg: CalibrateParams, logits: Logits, truth: Labels, temperature: float, dangerous: Sequence[int]
) -> float | None:
    own = logits[np.isin(truth, dangerous)]
    scores = harmless_scores(own, probabilities(own, temperature), dangerous)
    limit = danger_limit(scores, cfg.min_sensitivity, cfg.confidence)
    if dangerous and limit is None:
        needed = dangerous_needed(cfg.min_sensitivity, cfg.confidence)
        print(
            f"{len(own)} dangerous calibration pictures set no limit for calibrate.min_sensitivity "
            f"{cfg.min_sensitivity:g}, which needs {needed}: every answer with a harmless label gets `review`"
        )
    return limit


def _unattacked(shown: pictures.Pictures, modality: Modality, seed: int) -> Iterator[Images]:
    yield shown.images
    generator = np.random.default_rng(seed)
    for change in modality.fitting_changes.values():
        yield change(shown.images, generator)


def _attacked(
    crafter: GradientClassifier, shown: pictures.Pictures, modality: Modality, cfg: CalibrateParams
) -> Iterator[Images]:
    radii = [modality.unit.radius(radius) for radius in cfg.radii]
    grid = FGSM().each(crafter, Batch(shown.images, shown.truth), radii)
    for radius, crafted in zip(radii, grid, strict=True):
        yield on_grid(crafted, shown.images, radius)


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("calibrate", CalibrateParams))


if __name__ == "__main__":
    stage(main)
