"""Measures what a classifier gains by restoration before it, by training with noise, and by the quality check.

Reads   a folder of class folders, the weights of VGG-19's base, the denoiser's weights if they exist
Writes  docs/results/restoration.json, and the denoiser's weights if they did not exist
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from benchmarks import restored_pictures, results
from benchmarks.restored_classifiers import (
    CLEAN,
    FAULTS,
    RADII_255,
    STEPS,
    Bench,
    Fault,
    Flags,
    Measured,
    split,
)
from benchmarks.results import CellValue, Column, Estimate, Table, rate
from benchmarks.tables import markdown
from buckler.detection.quality import QualityLimits
from buckler.errors import DataError
from buckler.evaluation.statistics import share_of
from buckler.modality.picture.modality import MODALITY as PICTURE
from buckler.modality.picture.restoration import table
from buckler.modality.picture.restoration.base import Step
from buckler.models.classifier import Classifier
from buckler.models.denoiser import Denoiser
from buckler.models.gradients import GradientClassifier
from buckler.models.restored import RestoredClassifier
from buckler.training.denoising import DenoiserSchedule
from pipelines.stage import stage

NAME = "restoration"
COMMAND = "python -m benchmarks.restoration --data DIR --weights FILE"
NONE: Final = "none"
AUGMENTED: Final = "none, trained with noise"


def run(given: argparse.Namespace, out: Path) -> None:
    """Write and print the tables.

    Raises:
        DataError: The folder has no class folders, too few pictures, or no class ``--malignant``.
        ModelError: Weights do not fit.
    """
    parts, names = split(given.data, per_class=given.per_class, seed=given.seed)
    if given.malignant not in names:
        raise DataError(f"expected --malignant to be one of {', '.join(names)}, got {given.malignant}")
    schedule = DenoiserSchedule(steps=given.denoiser_steps, seed=given.seed)
    network = restored_pictures.trained(given.denoiser, parts["train"], schedule)
    steps = restored_pictures.as_served(network, PICTURE.shape(given.size))
    bench = Bench(
        parts,
        weights=given.weights,
        size=given.size,
        classes=len(names),
        degraded=given.degraded,
        attacked=given.attacked,
        seed=given.seed,
    )
    measured, labels = _classifiers(bench, steps, network), bench.labels["test"]
    tables = {
        "classifiers": classifier_table(measured, labels == names.index(given.malignant)),
        "faults": fault_table(measured, _refused(bench)),
    }
    settings = {
        "pictures": {name: len(part.paths) for name, part in parts.items()},
        "image_size": given.size,
        "pgd_steps": STEPS,
        "denoiser_weights": network.network.count_params(),
        "denoiser_steps": given.denoiser_steps,
    }
    remark = (
        f"Head of VGG-19 at {given.size} pixels, trained behind each step on {len(parts['train'].paths)} pictures,"
        f" tested on {len(labels)}, {given.degraded} of them with each fault and {given.attacked} attacked with PGD of"
        f" {STEPS} steps."
    )
    results.new(NAME, COMMAND, tables, seeds=[given.seed], settings=settings, remark=remark).write(out)
    print("\n\n".join(markdown(each) for each in tables.values()))


def _classifiers(bench: Bench, steps: Mapping[str, Step], network: Denoiser) -> dict[str, Measured]:
    """Return the results of a classifier behind each step, and of one that was trained with noisy copies."""
    plans = [(name, step, False) for name, step in steps.items()] + [(AUGMENTED, steps[NONE], True)]
    found = {}
    with tqdm(plans, unit="classifier") as bar:
        for name, step, noise in bar:
            bar.set_description(f"{name}: train")
            classifier = bench.train(step, noise=noise)
            bar.set_description(f"{name}: measure")
            found[name] = bench.measure(RestoredClassifier(step, classifier), _attackers(step, classifier, network))
    return found


def _attackers(step: Step, classifier: Classifier, network: Denoiser) -> list[GradientClassifier]:
    """Return the models whose gradients attack ``classifier`` behind ``step``.

    They are the step as it is, whose derivative counts as the identity, and the step with the denoiser's derivative.
    The denoiser itself has the true one only.
    """
    known: dict[str, list[Step | None]] = {table.CNN: [network], NONE: [None]}
    backward = known.get(step.name, [None, network])
    return [RestoredClassifier(step, classifier, each) for each in backward]


def _refused(bench: Bench) -> dict[Fault, Flags]:
    """Return which test pictures the quality check refuses, clean and with each fault."""
    limits = QualityLimits.fit(bench.images["train"], PICTURE)
    return {fault: limits.unfit(bench.degraded(*fault), PICTURE) for fault in (CLEAN, *FAULTS)}


def classifier_table(measured: Mapping[str, Measured], malignant: Flags) -> Table:
    """Return a row for each classifier: clean, degraded and attacked pictures."""
    columns = (
        Column("step", "step"),
        Column("clean", "clean accuracy", ".1%", "95 % interval"),
        Column("sensitivity", "malignant sensitivity", ".1%", "95 % interval"),
        Column("degraded", f"accuracy on degraded pictures, mean over {len(FAULTS)} faults", ".1%"),
        *(Column(f"robust_{r}", f"robust accuracy at {r}/255", ".1%", "95 % interval") for r in RADII_255),
    )
    rows: list[dict[str, CellValue]] = [
        {
            "step": f"`{name}`" if name != AUGMENTED else name,
            "clean": _share(one.right[CLEAN]),
            "sensitivity": _share(one.right[CLEAN][malignant]),
            "degraded": float(np.mean([one.right[fault].mean() for fault in FAULTS])),
            **{f"robust_{radius}": rate(one.robust[radius]) for radius in RADII_255},
        }
        for name, one in measured.items()
    ]
    return Table(columns, tuple(rows))


def fault_table(measured: Mapping[str, Measured], refused: Mapping[Fault, Flags]) -> Table:
    """Return a row for each fault: accuracy of each classifier, and the quality check in front of the plain one."""
    columns = (
        Column("fault", "accuracy on pictures with"),
        Column("severity", "severity"),
        *(Column(name, f"`{name}`" if name in table.NAMES else name, ".1%") for name in measured),
        Column("refused", "quality check: refused", ".1%"),
        Column("accepted", "`none` on the rest", ".1%"),
    )
    rows: list[dict[str, CellValue]] = [
        {
            "fault": fault[0],
            "severity": fault[1] or None,
            **{name: float(one.right[fault].mean()) for name, one in measured.items()},
            "refused": float(flags.mean()),
            "accepted": _share(measured[NONE].right[fault][~flags]),
        }
        for fault, flags in refused.items()
    ]
    return Table(columns, tuple(rows))


def _share(flags: Flags) -> Estimate | None:
    found = share_of(flags)
    return rate(found) if found else None


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    restored_pictures.add_options(parser)
    parser.add_argument("--weights", required=True, help="Keras file of VGG-19's base")
    parser.add_argument("--malignant", default="malignant", help="class that must not be missed (default: malignant)")
    parser.add_argument("--degraded", type=int, default=60, help="test pictures given each fault (default: 60)")
    parser.add_argument("--attacked", type=int, default=60, help="test pictures to attack (default: 60)")
    parser.add_argument("--size", type=int, default=64, help="side of the network's input in pixels (default: 64)")
    given = parser.parse_args()
    run(given, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
