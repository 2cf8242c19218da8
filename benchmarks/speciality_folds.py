"""Grouped cross-validation of a head on the features of a frozen base."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from benchmarks.results import Estimate
from benchmarks.speciality_tasks import HELD_OUT, Classes, Records, Task
from buckler.evaluation.statistics import CONFIDENCE, wilson
from buckler.models.backend import keras
from buckler.models.forward import Features, Logits
from buckler.models.networks.base import HeadShape
from buckler.training.loop import Schedule, train_head

FOLDS = 5
INNER_FOLDS = 4  # of the training pictures, one is set aside to choose the weight decay
WEIGHT_DECAYS = (0.03, 0.1, 0.3, 1.0)
SCHEDULE = Schedule(epochs=30, batch_size=32, learning_rate=3e-4, seed=7)
RESAMPLES = 2000  # of the bootstrap
RIDGE = np.logspace(0, 6, 13)

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold of a task: positions of its test pictures in the records, its head and the decay it was trained with."""

    test: Rows
    head: keras.Sequential
    weight_decay: float


@dataclass(frozen=True, slots=True)
class Scored:
    """Logits of each record by the head that has seen no picture of its group, and the folds."""

    logits: Logits
    folds: tuple[Fold, ...]


def cross_validate(task: Task, features: Features, records: Records, seed: int) -> Scored:
    """Return the answers of five heads, each on the groups that it was not trained on.

    Standardisation and weight decay come from the training pictures of each fold alone.

    Args:
        task: What the records are about.
        features: Of all pictures of the folder, ``(n, features)``.
        records: Of the task.
        seed: Of the folds.
    """
    mine, classes = features[records.rows].astype(np.float16), int(records.truth.max()) + 1
    logits, folds = np.zeros((len(mine), classes), np.float32), []
    rounds = list(_splits(records.truth, records.groups, FOLDS, seed))
    for train, test in tqdm(rounds, unit="fold", desc=task.name):
        known = train[records.truth[train] != HELD_OUT]
        decay = _chosen_decay(mine[known].astype(np.float32), records.truth[known], records.groups[known], seed)
        head = _fit(mine[known], records.truth[known], classes, decay)
        logits[test] = head.predict(mine[test].astype(np.float32), verbose=0)
        folds.append(Fold(test, head, decay))
    return Scored(logits, tuple(folds))


def value_of(task: Task, logits: Logits, truth: Classes) -> float:
    """Return AUC or accuracy of ``logits``, as ``task.measure``; `HELD_OUT` records do not count."""
    counted = truth != HELD_OUT
    if task.measure == "auc":
        return float(roc_auc_score(truth[counted], _margin(logits[counted])))
    return float(np.mean(logits[counted].argmax(axis=1) == truth[counted]))


def estimate_of(task: Task, logits: Logits, records: Records, seed: int) -> Estimate:
    """Return ``value_of`` over all folds together, with its 95 % interval by a bootstrap over the groups."""
    counted = np.flatnonzero(records.truth != HELD_OUT)
    _, group = np.unique(records.groups[counted], return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    generator, values = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        drawn = counted[np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])]
        if len(np.unique(records.truth[drawn])) > 1:
            values.append(value_of(task, logits[drawn], records.truth[drawn]))
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value_of(task, logits, records.truth), float(low), float(high))


def mild(scored: Scored, records: Records) -> tuple[Estimate, float]:
    """Return what share of the held-out eyes counts as referable, and the AUC of held-out against normal eyes."""
    margin = _margin(scored.logits)
    held, normal = records.truth == HELD_OUT, records.truth == 0
    share = wilson(int((margin[held] > 0).sum()), int(held.sum()))
    both = held | normal
    return Estimate(share.value, share.low, share.high), float(roc_auc_score(held[both], margin[both]))


def age_errors(features: Features, ages: npt.NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the mean absolute error in years of ridge regression, and that of the mean age, over five folds."""
    errors: list[npt.NDArray[np.float64]] = []
    order = np.random.default_rng(seed).permutation(len(ages))
    for test in np.array_split(order, FOLDS):
        train = np.setdiff1d(order, test)
        model = make_pipeline(StandardScaler(), RidgeCV(RIDGE)).fit(features[train], ages[train])
        guesses = (model.predict(features[test]), ages[train].mean())
        errors.append(np.array([np.abs(guess - ages[test]).sum() for guess in guesses]))
    by_picture, by_mean = np.sum(errors, axis=0) / len(ages)
    return float(by_picture), float(by_mean)


def _fit(features: Features, truth: Classes, classes: int, decay: float) -> keras.Sequential:
    shape = HeadShape((), 0.0, decay, standardised=True)
    few = slice(0, 1)  # train_head measures on them, which costs time and decides nothing
    head, _ = train_head(
        features[None], truth, (features[few], truth[few]), classes=classes, head=shape, schedule=SCHEDULE
    )
    return head


def _chosen_decay(features: Features, truth: Classes, groups: npt.NDArray[np.str_], seed: int) -> float:
    """Return the decay with the smallest loss on pictures set aside.

    Logistic regression with the same penalty stands in for the head: it takes a hundredth of the time of its training.
    """
    train, validation = next(_splits(truth, groups, INNER_FOLDS, seed))
    scaled = StandardScaler().fit(features[train]).transform(features)

    def loss(decay: float) -> float:
        model = LogisticRegression(C=inverse_penalty(decay, truth[train]), max_iter=1000)
        model.fit(scaled[train], truth[train])
        return float(log_loss(truth[validation], model.predict_proba(scaled[validation]), labels=model.classes_))

    return min(WEIGHT_DECAYS, key=loss)


def inverse_penalty(decay: float, truth: Classes) -> float:
    """Return the ``C`` with which scikit-learn's logistic regression has the minimum of a head trained with ``decay``.

    Of two classes it fits one column of weights; the head has two, opposite and half as large each.
    """
    columns = 1 if len(np.unique(truth)) == 2 else 2
    return 1 / (columns * decay * len(truth))


def _splits(truth: Classes, groups: npt.NDArray[np.str_], folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    yield from splitter.split(np.zeros(len(truth)), truth, groups)


def _margin(logits: Logits) -> npt.NDArray[np.float32]:
    return np.asarray(logits[:, 1] - logits[:, 0])
