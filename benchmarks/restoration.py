"""Measures restoration before classification: how close pictures come to the clean ones, and what a classifier gains.

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
    attackers,
    split,
)
from benchmarks.results import CellValue, Column, Estimate, Table, rate
from benchmarks.tables import markdown
from buckler.detection.quality import QualityLimits
from buckler.errors import DataError
from buckler.evaluation.statistics import share_of
from buckler.modality.base import Images
from buckler.modality.picture.modality import MODALITY as PICTURE
from buckler.modality.picture.restoration import table
from buckler.modality.picture.restoration.base import Step
from buckler.models import denoiser
from buckler.models.denoiser import Denoiser
from buckler.models.restored import RestoredClassifier
from buckler.state import paths
from buckler.training import denoising
from buckler.training.denoising import DenoiserSchedule
from pipelines.stage import stage

NAME = "restoration"
COMMAND = "python -m benchmarks.restoration --data DIR --weights FILE"
NATIVE = 224  # pixels a side of the pictures that are compared with the clean ones
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
    network = _denoiser(given.denoiser, parts["train"].load(NATIVE), schedule)
    steps: dict[str, Step] = {name: table.find(name) for name in table.STEPS} | {network.name: network}
    sample = parts["test"].load(NATIVE, given.pictures)
    tables = restored_pictures.tables(steps, sample, seed=given.seed)
    times = {name: restored_pictures.milliseconds(step, sample) for name, step in steps.items()}
    bench = Bench(
        parts,
        weights=given.weights,
        size=given.size,
        classes=len(names),
        attacked=given.attacked,
        seed=given.seed,
    )
    measured, labels = _classifiers(bench, steps, network), bench.labels["test"]
    tables["classifiers"] = classifier_table(measured, labels == names.index(given.malignant), times)
    tables["faults"] = fault_table(measured, _refused(bench))
    settings = {
        "pictures": {name: len(part.paths) for name, part in parts.items()},
        "image_size": given.size,
        "pgd_steps": STEPS,
        "denoiser_weights": network.network.count_params(),
        "denoiser_steps": given.denoiser_steps,
    }
    remark = (
        f"{len(sample)} pictures of {NATIVE} pixels a side restored. Head of VGG-19 at {given.size} pixels, trained"
        f" behind each step on {len(parts['train'].paths)} pictures, tested on {len(labels)}, {given.attacked} of them"
        f" attacked with PGD of {STEPS} steps. Milliseconds of processor time, all threads together."
    )
    results.new(NAME, COMMAND, tables, seeds=[given.seed], settings=settings, remark=remark).write(out)
    print("\n\n".join(markdown(each) for each in tables.values()))


def _denoiser(path: Path, images: Images, schedule: DenoiserSchedule) -> Denoiser:
    if path.exists():
        return denoiser.load(path)
    with tqdm(total=schedule.steps, unit="step", desc="train the denoiser") as bar:
        network = denoising.train(images, schedule, lambda _, __: bar.update())
    network.save(path)
    return network


def _classifiers(bench: Bench, steps: Mapping[str, Step], network: Denoiser) -> dict[str, Measured]:
    """Return the results of a classifier behind each step, and of one that was trained with noisy copies."""
    plans = [(name, step, False) for name, step in steps.items()] + [(AUGMENTED, steps[NONE], True)]
    found = {}
    with tqdm(plans, unit="classifier") as bar:
        for name, step, noise in bar:
            bar.set_description(f"{name}: train")
            classifier = bench.train(step, noise=noise)
            # Behind a step without a true derivative, the denoiser's is a second approximation.
            similar = [] if name in (NONE, AUGMENTED, network.name) else [network]
            bar.set_description(f"{name}: measure")
            found[name] = bench.measure(RestoredClassifier(step, classifier), attackers(step, classifier, similar))
    return found


def _refused(bench: Bench) -> dict[Fault, Flags]:
    """Return which test pictures the quality check refuses, clean and with each fault."""
    limits = QualityLimits.fit(bench.images["train"], PICTURE)
    return {fault: limits.unfit(bench.degraded(*fault), PICTURE) for fault in (CLEAN, *FAULTS)}


def classifier_table(measured: Mapping[str, Measured], malignant: Flags, times: Mapping[str, float]) -> Table:
    """Return a row for each classifier: clean, degraded and attacked pictures, and the time of its step."""
    columns = (
        Column("step", "step"),
        Column("clean", "clean accuracy", ".1%", "95 % interval"),
        Column("sensitivity", "malignant sensitivity", ".1%", "95 % interval"),
        Column("degraded", f"accuracy on degraded pictures, mean over {len(FAULTS)} faults", ".1%"),
        *(Column(f"robust_{r}", f"robust accuracy at {r}/255", ".1%", "95 % interval") for r in RADII_255),
        Column("milliseconds", f"milliseconds a picture of {NATIVE} pixels", ".0f"),
    )
    rows: list[dict[str, CellValue]] = [
        {
            "step": f"`{name}`" if name != AUGMENTED else name,
            "clean": _share(one.right[CLEAN]),
            "sensitivity": _share(one.right[CLEAN][malignant]),
            "degraded": float(np.mean([one.right[fault].mean() for fault in FAULTS])),
            **{f"robust_{radius}": rate(one.robust[radius]) for radius in RADII_255},
            "milliseconds": times.get(name, times[NONE]),
        }
        for name, one in measured.items()
    ]
    return Table(columns, tuple(rows))


def fault_table(measured: Mapping[str, Measured], refused: Mapping[Fault, Flags]) -> Table:
    """Return a row for each fault: accuracy of each classifier, and the quality check in front of the plain one."""
    columns = (
        Column("fault", "accuracy on pictures with"),
        Column("severity", "severity"),
        *(
            Column(name, f"`{name}`" if name in table.STEPS or name == denoiser.NAME else name, ".1%")
            for name in measured
        ),
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
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder of pictures for each class")
    parser.add_argument("--weights", required=True, help="Keras file of VGG-19's base")
    parser.add_argument("--malignant", default="malignant", help="class that must not be missed (default: malignant)")
    parser.add_argument("--per-class", type=int, default=250, help="pictures of each class (default: 250)")
    parser.add_argument("--pictures", type=int, default=12, help="test pictures to restore (default: 12)")
    parser.add_argument("--attacked", type=int, default=60, help="test pictures to attack (default: 60)")
    parser.add_argument("--size", type=int, default=64, help="side of the network's input in pixels (default: 64)")
    parser.add_argument("--seed", type=int, default=7, help="seed of all random choices (default: 7)")
    parser.add_argument("--denoiser-steps", type=int, default=4000, help="steps of its training (default: 6000)")
    parser.add_argument(
        "--denoiser",
        type=Path,
        default=paths.DENOISER,
        help="weights of the denoiser; trained and written if there are none (default: %(default)s)",
    )
    results.add_options(parser)
    given = parser.parse_args()
    run(given, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
