"""Measures the networks for other specialities: photographs of the retina and of the mouth.

Reads   DIR/{retina,dental}/: pictures and labels.csv; weights of VGG-19's base (``--weights``)
Writes  docs/results/specialities.json

Five-fold cross-validation, in which all pictures of a patient are in one fold; the base is frozen, a head is trained
for each fold. The features are kept in ``--features``: an interrupted measurement resumes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks import results, speciality_folds, speciality_tasks
from benchmarks.base_features import features_of
from benchmarks.results import CellValue, Column, Estimate, Table
from benchmarks.speciality_folds import Fold, Scored
from benchmarks.speciality_tasks import HELD_OUT, REFERABLE_TASK, SEX_TASK, TASKS, Records, Task
from benchmarks.tables import markdown
from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM
from buckler.evaluation.statistics import wilson
from buckler.modality import table as modalities
from buckler.modality.base import InputForm
from buckler.models.classifier import Classifier
from buckler.models.forward import Features
from buckler.models.networks import table
from buckler.models.networks.base import join
from buckler.state import paths
from pipelines.stage import stage

COMMAND = "python -m benchmarks.specialities --data DIR --weights FILE"
SIZE = 224
RADII = (1, 2)  # in 1/255
BATCH_SIZE = 8


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of the command.

    Attributes:
        data: Folder of the folders ``retina`` and ``dental``.
        weights: Of VGG-19's base, as ``train.weights``.
        features: Folder in which the features of the bases are kept.
        attacked: Pictures of each task to attack, from all folds alike.
        seed: Of folds, choices and weights.
    """

    data: Path
    weights: str
    features: Path
    attacked: int
    seed: int


def run(options: Options, out: Path) -> None:
    """Write and print the tables."""
    tables: dict[str, Any] = {"tasks": [], "folds": [], "mild": [], "attacked": [], "other": []}
    for task in TASKS:
        frame, features, records = _read(task, options)
        scored = speciality_folds.cross_validate(task, features, records, options.seed)
        tables["tasks"].append(_task_row(task, scored, records, options.seed))
        tables["folds"].append(_fold_row(task, scored, records))
        tables["attacked"].extend(_attacked_rows(task, scored, records, frame, options))
        if task == REFERABLE_TASK:
            share, auc = speciality_folds.mild(scored, records)
            count = int((records.truth == HELD_OUT).sum())
            tables["mild"].append({"eyes": count, "referable": share, "auc": auc})
    tables["other"] = list(_age_and_sex(options))
    made = {name: Table(COLUMNS[name], tuple(rows)) for name, rows in tables.items() if rows}
    settings = {"attacked": options.attacked, "image_size": SIZE, "weight_decays": speciality_folds.WEIGHT_DECAYS}
    results.new("specialities", COMMAND, made, seeds=[options.seed], settings=settings).write(out)
    print("\n\n".join(markdown(each) for each in made.values()))


COLUMNS = {
    "tasks": (
        Column("task", "task"),
        Column("network", "network"),
        Column("pictures", "pictures by class"),
        Column("measure", "measure"),
        Column("value", "value", ".3f", "95 % interval"),
        Column("floor", "simple features", ".2f"),
        Column("goal", "goal, at least", ".2f"),
        Column("reached", "reached"),
    ),
    "folds": (
        Column("task", "task"),
        *(Column(f"fold_{number}", f"fold {number}", ".3f") for number in range(1, speciality_folds.FOLDS + 1)),
        Column("weight_decay", "weight decay of each fold"),
    ),
    "mild": (
        Column("eyes", "eyes with mild retinopathy"),
        Column("referable", "answered referable", ".1%", "95 % interval"),
        Column("auc", "AUC against normal", ".3f"),
    ),
    "attacked": (
        Column("task", "task"),
        Column("pictures", "attacked pictures"),
        Column("clean", "clean accuracy", ".1%", "95 % interval"),
        *(Column(f"fgsm_{radius}", f"FGSM {radius}/255", ".1%", "95 % interval") for radius in RADII),
    ),
    "other": (
        Column("question", "question to normal retinas"),
        Column("measure", "measure"),
        Column("value", "value", ".2f"),
        Column("guess", "without looking", ".2f"),
    ),
}


def _read(task: Task, options: Options) -> tuple[pd.DataFrame, Features, Records]:
    frame = speciality_tasks.table_of(options.data, task.folder)
    features = features_of(
        table.find(task.network),
        options.weights,
        [Path(path) for path in frame["path"]],
        size=SIZE,
        seed=options.seed,
        kept=options.features,
    )
    return frame, features, speciality_tasks.records_of(task, frame)


def _task_row(task: Task, scored: Scored, records: Records, seed: int) -> dict[str, CellValue]:
    found = speciality_folds.estimate_of(task, scored.logits, records, seed)
    counts = np.bincount(records.truth[records.truth != HELD_OUT])
    return {
        "task": task.title,
        "network": task.network,
        "pictures": " + ".join(map(str, counts)),
        "measure": "AUC" if task.measure == "auc" else task.measure,
        "value": found,
        "floor": task.floor,
        "goal": task.goal,
        "reached": bool(found.value is not None and task.goal is not None and found.value >= task.goal),
    }


def _fold_row(task: Task, scored: Scored, records: Records) -> dict[str, CellValue]:
    values = {
        f"fold_{number}": speciality_folds.value_of(task, scored.logits[fold.test], records.truth[fold.test])
        for number, fold in enumerate(scored.folds, start=1)
    }
    return {"task": task.title, **values, "weight_decay": ", ".join(str(fold.weight_decay) for fold in scored.folds)}


def _attacked_rows(
    task: Task, scored: Scored, records: Records, frame: pd.DataFrame, options: Options
) -> Iterator[dict[str, CellValue]]:
    """Yield accuracy under FGSM of pictures drawn from each fold, attacked through that fold's network."""
    if not options.attacked:
        return
    picture = modalities.find("picture")
    form = InputForm(picture, picture.shape(SIZE))
    base = table.find(task.network).base(form.shape, weights=options.weights, seed=options.seed)
    generator = np.random.default_rng(options.seed)
    right: list[list[bool]] = [[] for _ in (0, *RADII)]
    for fold in tqdm(scored.folds, unit="fold", desc=f"attack {task.name}"):
        rows = _drawn(fold, records, options.attacked // len(scored.folds), generator)
        truth = records.truth[rows]
        images = form.load_batch([Path(frame["path"].iloc[row]) for row in records.rows[rows]])
        network = Classifier(join(base, fold.head), batch_size=BATCH_SIZE)
        moved = FGSM().perturb_each(network, Batch(images, truth, seed=options.seed), [r / 255 for r in RADII])
        clean = network.logits(images).argmax(axis=1) == truth
        right[0].extend(clean)
        for flags, adversarial in zip(right[1:], moved, strict=True):
            flags.extend(clean & (network.logits(adversarial).argmax(axis=1) == truth))
    names = ("clean", *(f"fgsm_{radius}" for radius in RADII))
    yield {"task": task.title, "pictures": len(right[0]), **dict(zip(names, map(_share, right), strict=True))}


def _drawn(fold: Fold, records: Records, count: int, generator: np.random.Generator) -> speciality_folds.Rows:
    known = fold.test[records.truth[fold.test] != HELD_OUT]
    return np.sort(generator.permutation(known)[:count])


def _share(flags: list[bool]) -> Estimate:
    found = wilson(sum(flags), len(flags))
    return Estimate(found.value, found.low, found.high)


def _age_and_sex(options: Options) -> Iterator[dict[str, CellValue]]:
    """Yield what the features of the retina's network tell about age and sex of people with normal retinas."""
    frame, features, records = _read(SEX_TASK, options)
    ages = frame["age"].to_numpy(np.float64)[records.rows]
    error, by_mean = speciality_folds.age_errors(features[records.rows], ages, options.seed)
    yield {"question": "age", "measure": "mean error in years", "value": error, "guess": by_mean}
    scored = speciality_folds.cross_validate(SEX_TASK, features, records, options.seed)
    value = speciality_folds.value_of(SEX_TASK, scored.logits, records.truth)
    yield {"question": "sex", "measure": "AUC", "value": value, "guess": 0.5}


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders retina and dental")
    parser.add_argument("--weights", default="imagenet", help="weights of VGG-19's base, as train.weights")
    parser.add_argument("--features", type=Path, default=paths.STATE / "specialities", help="folder of kept features")
    parser.add_argument("--attacked", type=int, default=100, help="pictures of each task to attack; 0: none (100)")
    parser.add_argument("--seed", type=int, default=7, help="of folds, choices and weights (default: 7)")
    results.add_options(parser)
    given = parser.parse_args()
    options = Options(given.data, given.weights, given.features, given.attacked, given.seed)
    run(options, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
