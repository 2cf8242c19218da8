"""Tasks of other specialities: their pictures, classes, patients, and what other methods reach on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from buckler.errors import DataError

REFERABLE = 2  # grade of diabetic retinopathy from which a patient is referred
SEVERE = 3
HELD_OUT = -1  # class of pictures that no network trains on

Classes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Task:
    """One question to the pictures of a folder.

    Attributes:
        name: Short name.
        title: For people.
        folder: Of the pictures and their ``labels.csv``.
        network: A name of ``train.network``.
        measure: ``auc`` of two classes or ``accuracy`` of more.
        floor: The measure of simple features with logistic regression or a random forest; None: unknown.
        goal: The measure to reach; None: none.
    """

    name: str
    title: str
    folder: str
    network: str
    measure: Literal["auc", "accuracy"]
    floor: float | None
    goal: float | None


REFERABLE_TASK = Task("referable", "normal or referable retinopathy", "retina", "vgg19_fundus", "auc", 0.79, 0.85)
TASKS = (
    REFERABLE_TASK,
    Task("severe", "normal or severe retinopathy", "retina", "vgg19_fundus", "auc", 0.90, 0.93),
    Task("hypertensive", "normal or hypertensive retina", "retina", "vgg19_fundus", "auc", 0.77, 0.80),
    Task("dental", "six conditions of the mouth", "dental", "vgg19_texture", "accuracy", 0.52, 0.65),
)
SEX_TASK = Task("sex", "sex from normal retinas", "retina", "vgg19_fundus", "auc", 0.47, None)


@dataclass(frozen=True, slots=True)
class Records:
    """Pictures of one task: their rows in the folder's table, class indices and groups that no split may separate."""

    rows: npt.NDArray[np.int64]
    truth: Classes
    groups: npt.NDArray[np.str_]


def table_of(data: Path, folder: str) -> pd.DataFrame:
    """Return the rows of ``labels.csv`` in a folder of ``data``, with the path of each picture.

    Raises:
        DataError: There is no such table, or it lacks a column.
    """
    path = data / folder / "labels.csv"
    needed = ["file", "label", *(["patient_id", "dr_grade", "age", "sex"] if folder == "retina" else [])]
    try:
        frame = pd.read_csv(path, dtype={"patient_id": str})
    except (OSError, ValueError) as error:
        raise DataError(f"expected a table of pictures in {path}: {error}") from error
    if missing := [name for name in needed if name not in frame]:
        raise DataError(f"{path}: expected the columns {', '.join(needed)}, got none called {', '.join(missing)}")
    if folder == "retina":
        frame = frame[frame["label"].isin(["normal", "dr", "hypertensive"])]
    paths = [str(path.parent / name) for name in frame["file"]]
    return frame.assign(path=paths).reset_index(drop=True)


def records_of(task: Task, frame: pd.DataFrame) -> Records:
    """Return the pictures of ``task``; those of the class `HELD_OUT` are only scored."""
    truth = _truth(task.name, frame)
    rows = np.flatnonzero(truth.notna())
    groups = frame["patient_id"] if "patient_id" in frame else frame["file"]
    return Records(rows, truth.iloc[rows].to_numpy(np.int64), groups.iloc[rows].to_numpy(str))


def _truth(task: str, frame: pd.DataFrame) -> pd.Series:
    """Return the class index of each row, or NaN."""
    if task == "dental":
        return frame["label"].map({label: place for place, label in enumerate(sorted(set(frame["label"])))})
    truth = pd.Series(np.nan, frame.index)
    normal = frame["label"] == "normal"
    if task == "sex":
        return truth.mask(normal, (frame["sex"] == "Female").astype(float))
    truth[normal] = 0
    if task == "hypertensive":
        truth[frame["label"] == "hypertensive"] = 1
    else:
        truth[frame["dr_grade"] >= (REFERABLE if task == "referable" else SEVERE)] = 1
    if task == "referable":
        truth[(frame["label"] == "dr") & (frame["dr_grade"] < REFERABLE)] = HELD_OUT
    return truth
