"""Stage ``export``: exports the network for serving, in the fastest precision at parity with the reference.

Reads   models/classifier/, data/splits/{train,test}.csv and the pictures they list
Writes  models/runtime/: the exported network and runtime.json, the precisions it may serve in,
        reports/runtime.json: the gap between each precision and the reference

Later stages score in the first precision. The service uses it too, or a more precise one if its processor does not
support it. A randomised network stays in Keras, because its random layers are not exported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from buckler import params
from buckler.attacks.ball import on_grid
from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM
from buckler.attacks.iterative import PGD
from buckler.compute.machine import crafting_precision, instruction_set
from buckler.data import pictures
from buckler.errors import ModelError
from buckler.evaluation import parity, reports
from buckler.evaluation.reports import MeasuredModel, RuntimeReport
from buckler.measurements.results import Parity, ParityAttack, ParityPolicy
from buckler.modality.base import Images, Radius, RadiusUnit
from buckler.modality.picture.restoration.base import Step
from buckler.models import checkpoint, export, restored, runtime
from buckler.models.classifier import Classifier
from buckler.models.denoiser import Denoiser
from buckler.models.info import ModelInfo
from buckler.models.networks import table
from buckler.params import Count, Radii, Seed
from buckler.trust import digests
from pipelines.stage import stage

SPLITS = Path("data/splits")
CLASSIFIER = Path("models/classifier")
RUNTIME = Path("models/runtime")
REPORTS = Path("reports")
BATCH_SIZE = 32
DETECTOR_RADIUS = 2  # in the unit of the modality, of the FGSM that the compared detectors are fitted on


@dataclass(frozen=True, slots=True)
class ExportParams:
    """Section ``export`` of params.yaml.

    Attributes:
        records: Number of training records, for the value ranges of int8, and of test records, to compare answers.
        radii: Of the attack under which answers are compared, L-infinity.
        steps: Of the attack, PGD.
        seed: Of the choice of pictures and of the attack.
        parity: Limits of the differences from the reference.
    """

    records: Count
    radii: Radii
    steps: Count
    seed: Seed
    parity: ParityPolicy


def run(cfg: ExportParams) -> None:
    """Export the network, choose the precisions in which it may serve, and report the comparison."""
    info = checkpoint.load_info(CLASSIFIER)
    RUNTIME.mkdir(parents=True, exist_ok=True)
    if info.defence == "randomised":
        runtime.RuntimeInfo((), engine="keras").save(RUNTIME)
        _report(cfg, info, "float32", {})
        return
    network, step = checkpoint.load_network(CLASSIFIER), restored.step_of(info, CLASSIFIER)
    sample, test = (_sample(name, info, step, cfg) for name in ("train", "test"))
    export.write(network, sample.images, RUNTIME)
    if isinstance(step, Denoiser):
        export.write_denoiser(step, info.shape, RUNTIME)
    measured = _measure(network, sample, test, cfg, info.form.modality.unit)
    passed = tuple(name for name, found in measured.items() if not found.failures(cfg.parity))
    if "float32" not in passed:
        failures = "; ".join(measured["float32"].failures(cfg.parity))
        raise ModelError(f"the exported network is not at parity with its original: {failures}")
    runtime.RuntimeInfo(passed, export.ENGINE).save(RUNTIME)
    _report(cfg, info, passed[0], measured)


def _sample(name: str, info: ModelInfo, step: Step | None, cfg: ExportParams) -> pictures.Pictures:
    """Return pictures of the split ``name`` as they reach the network: after the restoration step."""
    split = pictures.load(SPLITS / f"{name}.csv", info.labels, info.form, description=f"decode {name}")
    chosen = split.subset(cfg.records, cfg.seed)
    return chosen.changed(step, description=f"restore {name}") if step else chosen


def _measure(
    network: Any, sample: pictures.Pictures, clean: pictures.Pictures, cfg: ExportParams, unit: RadiusUnit
) -> dict[runtime.ServingPrecision, Parity]:
    """Return how far the answers of each precision native to this machine differ from the Keras network's."""
    crafter = Classifier(network, crafting_precision(), batch_size=BATCH_SIZE)
    layout = table.layout_of(network)
    fitted = unit.radius(unit.stated(DETECTOR_RADIUS))
    fgsm = FGSM()(crafter, Batch(sample.images, sample.truth), fitted)
    inputs = parity.ParityInputs(
        training=sample.images,
        training_attacked=on_grid(fgsm, sample.images, fitted),
        clean=(clean.images, clean.truth),
        attacked={radius: _attacked(crafter, clean, unit.radius(radius), cfg) for radius in cfg.radii},
        read=layout.trace_columns,
        probed=layout.probe_columns,
    )
    reference = parity.RuntimeAnswers.of(Classifier(network, batch_size=BATCH_SIZE), inputs)
    return {
        precision: parity.compare(reference, parity.RuntimeAnswers.of(_exported(precision), inputs), inputs)
        for precision in tqdm(runtime.native(), unit="precision", desc="compare")
    }


def _attacked(crafter: Classifier, clean: pictures.Pictures, within: Radius, cfg: ExportParams) -> Images:
    crafted = PGD(steps=cfg.steps)(crafter, Batch(clean.images, clean.truth, seed=cfg.seed), within)
    return on_grid(crafted, clean.images, within)


def _exported(precision: runtime.ServingPrecision) -> runtime.Runtime:
    return runtime.Runtime(RUNTIME / runtime.FILES[precision], precision)


def _report(
    cfg: ExportParams, info: ModelInfo, serves: str, precisions: Mapping[runtime.ServingPrecision, Parity]
) -> None:
    report = RuntimeReport(
        model=MeasuredModel(
            digests.directory_digest(CLASSIFIER),
            digests.directory_digest(RUNTIME),
            initial_weights=info.initial_weights,
        ),
        serves=serves,
        attack=ParityAttack("pgd", cfg.radii, cfg.steps),
        crafted_in=crafting_precision(),
        computed_on=instruction_set(),
        policy=cfg.parity,
        precisions={str(name): found for name, found in precisions.items()},
    )
    reports.write(report, REPORTS)
    print(f"the network serves in {serves}")
    for name, found in precisions.items():
        if failures := found.failures(cfg.parity):
            print(f"{name} differs too much from the reference ({'; '.join(failures)}), which costs only speed")


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("export", ExportParams))


if __name__ == "__main__":
    stage(main)
