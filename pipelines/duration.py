"""Estimates how long the stages will take on this machine: passes through the network, counted, times their seconds.

The seconds of a pass are measured for a few seconds with the network of ``train.network`` at the size of
``data.image_size``, in the precision in which this machine crafts attacks. The estimate leaves out what depends on the
machine's other work.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from buckler.compute.machine import crafting_precision
from buckler.evaluation import passes
from buckler.evaluation.crafter_and_scorer import RANDOM_DRAWS
from buckler.evaluation.passes import Passes
from buckler.models.classifier import Classifier
from buckler.models.networks import file, table
from buckler.models.networks.base import Architecture, HeadShape
from buckler.models.networks.small import SMALL
from buckler.release.requirements import Part
from buckler.reporting.folder_check import Duration
from buckler.training.adversarial import VALIDATION_PICTURES, VALIDATION_STEPS
from buckler.training.loop import Schedule, train_head, train_network
from pipelines.preflight import RunParams

MEASURED_SECONDS = 2.0  # of each kind of pass
CHECKED = 64  # pictures that the checks of an evaluation attack again, at most
PRECISIONS = 4  # that the stage `export` compares, the reference included
# Of the stage `export`, from a finished run: seconds to convert the network, and passes a picture to quantise it.
CONVERSION_SECONDS = 25.0
QUANTISATION_PASSES = 10
# Stages, the seconds that each takes whatever it does, and the number of those that load TensorFlow.
START_SECONDS = 600  # at most, to load TensorFlow
STAGES = 15
STAGE_SECONDS = 3.0
STAGES_WITH_NETWORK = 9
DECODED_AGAIN = 7  # times that a run decodes a picture, on average


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured seconds on this machine.

    Attributes:
        gradient: Of a pass forward and back, for each picture.
        forward: Of a pass for an answer, for each picture.
        training: Of an epoch on clean pictures, for each picture.
        decode: To read and decode a picture.
        start: To start an interpreter and load TensorFlow.
    """

    gradient: float
    forward: float
    training: float
    decode: float
    start: float

    def of(self, counted: Passes) -> float:
        """Return the seconds of ``counted`` passes."""
        return counted.gradients * self.gradient + counted.forwards * self.forward


def estimate(cfg: RunParams, sizes: Mapping[Part, int], *, classes: int, decode_seconds: float) -> Duration:
    """Return how long a run with ``cfg`` takes.

    Args:
        cfg: All sections.
        sizes: Pictures of each part, as `Demands.counts` calls them.
        classes: Number of classes.
        decode_seconds: Measured seconds to decode a picture.
    """
    costs = _measured(cfg, classes, decode_seconds)
    least, most = (dict(_stages(cfg, sizes, classes, costs, stable=stable)) for stable in (False, True))
    stages = {name: (min(least[name], most[name]), max(least[name], most[name])) for name in least}
    return Duration(sum(low for low, _ in stages.values()), sum(high for _, high in stages.values()), stages)


def _stages(
    cfg: RunParams, sizes: Mapping[Part, int], classes: int, costs: Costs, *, stable: bool
) -> Iterator[tuple[str, float]]:
    """Yield the seconds of each costly stage, for a network whose answers are ``stable`` under attack or not."""
    train, calibration, test, attacked = (sizes[part] for part in ("train", "calibration", "test", "attacked"))
    # Each pass of an attack on a randomised network is the mean of so many draws.
    draws = RANDOM_DRAWS if cfg.train.defence == "randomised" else 1
    suite = passes.of_suite(cfg.attack.suite, classes, cfg.data.form.modality, stable=stable).times(attacked)
    checks = passes.of_checks(cfg.attack.suite, classes, cfg.data.form.modality, stable=stable).times(
        min(CHECKED, attacked)
    )
    yield (
        "features",
        costs.forward * ((cfg.features.copies + 1) * train + calibration) * _frozen(cfg),
    )
    trainings = 1 if cfg.train.file else 2  # the surrogate, and the network
    yield "train", trainings * cfg.train.epochs * train * costs.training + _hardening(cfg, train, costs)
    yield "export", CONVERSION_SECONDS + costs.of(_export(cfg, train, test, stable=stable))
    yield "evaluate", costs.forward * (calibration + test)
    yield "attack", draws * costs.of(suite + checks)
    yield "calibrate", costs.of(_calibrate(cfg, train))
    yield "detect", draws * costs.of(_detect(cfg, test, classes, stable=stable))
    everything = costs.decode * DECODED_AGAIN * sizes["all"]
    yield "reading and starting", everything + STAGES * STAGE_SECONDS + STAGES_WITH_NETWORK * costs.start


def _frozen(cfg: RunParams) -> bool:
    return not cfg.train.file and table.find(cfg.train.network).frozen_base


def _hardening(cfg: RunParams, train: int, costs: Costs) -> float:
    if cfg.train.defence != "adversarial":
        return 0.0
    # A step of training also computes the gradient of the weights: about half as much again.
    steps = train * (cfg.harden.steps + 1.5) + VALIDATION_PICTURES * VALIDATION_STEPS
    return cfg.harden.epochs * steps * costs.gradient


def _export(cfg: RunParams, train: int, test: int, *, stable: bool) -> Passes:
    sample, shown, radii = min(cfg.export.records, train), min(cfg.export.records, test), len(cfg.export.radii)
    attack = passes.of_pgd(cfg.export.steps, radii, cfg.data.form.modality, stable=stable).times(shown)
    compared = PRECISIONS * (2 * sample + (1 + radii) * shown)
    return Passes(gradients=sample) + attack + Passes(forwards=compared + QUANTISATION_PASSES * sample)


def _calibrate(cfg: RunParams, train: int) -> Passes:
    shown = min(cfg.calibrate.records or train, train)
    kinds = 1 + len(cfg.data.form.modality.fitting_changes) + len(cfg.calibrate.radii)
    return Passes(gradients=shown, forwards=train + kinds * shown)


def _detect(cfg: RunParams, test: int, classes: int, *, stable: bool) -> Passes:
    suite = tuple(spec.without_early_exit() for spec in cfg.detect.suite)
    unaware = passes.of_suite(suite, classes, cfg.data.form.modality, stable=stable).times(
        min(cfg.detect.records or test, test)
    )
    evasion = cfg.detect.evasion
    aware = passes.of_pgd(evasion.steps, len(evasion.radii), cfg.data.form.modality, stable=stable).times(
        len(evasion.objectives)
    )
    modality = cfg.data.form.modality
    clean = len(modality.evaluation_changes) * test + len(modality.strangers) * cfg.detect.strangers
    return unaware + aware.times(min(evasion.records or test, test)) + Passes(forwards=clean)


def _measured(cfg: RunParams, classes: int, decode_seconds: float) -> Costs:
    shape, head = cfg.data.form.shape, HeadShape(cfg.train.hidden, cfg.train.dropout)
    architecture = SMALL if cfg.train.file else table.find(cfg.train.network)  # that is trained
    network = trained = architecture.build(shape, classes, head=head, seed=0)
    if cfg.train.file:
        network = file.load(cfg.train.file, shape, classes=classes, taps=cfg.train.taps).network
    batch = cfg.attack.batch_size
    model = Classifier(network, crafting_precision(), batch_size=batch)
    images = np.random.default_rng(0).random((batch, *shape), np.float32)
    labels = np.zeros(batch, np.int64)
    return Costs(
        gradient=_seconds(lambda: model.loss_gradient(images, labels)) / batch,
        forward=_seconds(lambda: model.forward(images)) / batch,
        training=_training(cfg, architecture, trained, classes),
        decode=decode_seconds,
        start=_start(),
    )


def _training(cfg: RunParams, architecture: Architecture, network: object, classes: int) -> float:
    """Return the seconds of an epoch for each picture: of the head on features, or of the whole network."""
    count, epochs = 4 * cfg.train.batch_size, 3
    labels = np.arange(count, dtype=np.int64) % classes
    schedule = Schedule(epochs, cfg.train.batch_size, cfg.train.learning_rate, 0)
    moments: list[float] = []

    def note(*_: object) -> None:
        moments.append(time.perf_counter())

    if architecture.frozen_base:
        width = int(np.prod(architecture.base(cfg.data.form.shape, seed=0).output_shape[1:]))
        features = np.zeros((1, count, width), np.float16)
        head = HeadShape(cfg.train.hidden, cfg.train.dropout)
        validation = (features[0, :1].astype(np.float32), labels[:1])
        train_head(features, labels, validation, classes=classes, head=head, schedule=schedule, progress=note)
    else:
        images = np.zeros((count, *cfg.data.form.shape), np.float32)
        train_network(
            network,
            (images, labels),
            (images[:1], labels[:1]),
            schedule=schedule,
            vary=cfg.data.form.modality.varied,
            progress=note,
        )
    return (moments[-1] - moments[0]) / (len(moments) - 1) / count  # the first epoch also compiles


def _seconds(work: Callable[[], object]) -> float:
    """Return the seconds of one call of ``work``; the first, which compiles, does not count."""
    work()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < MEASURED_SECONDS:
        work()
        calls += 1
    return (time.perf_counter() - began) / calls


def _start() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import buckler.models.classifier"], timeout=START_SECONDS, check=True)
    return time.perf_counter() - began
